%% SPDX-License-Identifier: Apache-2.0
%% emqx.log.N, from level warning up: a successful start writes nothing (facts 6).
-module(emqx_log).
-export([write/3]).

write(Level, Format, Args) ->
    Dir = application:get_env(emqx, runner_log_dir, "/var/log/emqx"),
    Line = io_lib:format("~s [~s] " ++ Format ++ "~n",
                         [calendar:system_time_to_rfc3339(erlang:system_time(microsecond), [{unit, microsecond}]), Level | Args]),
    file:write_file(filename:join(Dir, "emqx.log." ++ integer_to_list(number(Dir))), Line, [append]).

%% Another number after each boot.
number(Dir) ->
    case persistent_term:get(emqx_log_number, none) of
        none ->
            Files = filelib:wildcard(filename:join(Dir, "emqx.log.[0-9]")),
            Newest = lists:sort([{filelib:last_modified(F), F} || F <- Files]),
            N = case Newest of
                    [] -> 1;
                    _ -> {_, F} = lists:last(Newest), (lists:last(F) - $0) rem 5 + 1
                end,
            persistent_term:put(emqx_log_number, N),
            N;
        N -> N
    end.
