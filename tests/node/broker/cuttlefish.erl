%% SPDX-License-Identifier: Apache-2.0
%% The configuration check: -i SCHEMA -c CONF -d DIR generate | get KEY. The grammar, the messages and the exit statuses
%% are those of facts 3.6; the schema is a list of known keys, `$` standing for any one word.
-module(cuttlefish).
-export([main/1]).

main(Args) ->
    {Options, Verb} = options(Args, #{}),
    Conf = environment(parse(maps:get(conf, Options))),
    case Verb of
        ["get", Key] ->
            case lists:keyfind(Key, 1, Conf) of
                {_, Value} -> io:format("~s~n", [Value]);
                false -> halt(1)
            end;
        ["generate"] -> generate(check(Conf, keys(maps:get(schema, Options))), maps:get(dir, Options))
    end.

options(["-i", V | T], O) -> options(T, O#{schema => V});
options(["-c", V | T], O) -> options(T, O#{conf => V});
options(["-d", V | T], O) -> options(T, O#{dir => V});
options(Rest, O) -> {O, Rest}.

keys(File) ->
    {ok, Text} = file:read_file(File),
    [string:split(K, ".", all) || K <- string:lexemes(binary_to_list(Text), "\n")].

parse(File) ->
    {ok, Text} = file:read_file(File),
    lists(string:split(string:replace(binary_to_list(Text), "\r\n", "\n", all), "\n", all), 1, File, []).

lists([], _, _, Conf) -> lists:reverse(Conf);
lists([Line | Lines], N, File, Conf) ->
    case string:trim(lists:flatten(Line), both, " \t") of
        "" -> lists(Lines, N + 1, File, Conf);
        "#" ++ _ -> lists(Lines, N + 1, File, Conf);
        "include " ++ Path ->
            Included = [KV || {K, _} = KV <- parse(string:trim(Path)), not lists:keymember(K, 1, Conf)],
            lists(Lines, N + 1, File, Included ++ Conf);
        Text ->
            case re:run(Text, "^([A-Za-z0-9_@/:.\\\\-]+)[ \t]*=[ \t]*(.+)$", [{capture, all_but_first, list}]) of
                {match, [Key, Value]} -> lists(Lines, N + 1, File, [{Key, Value} | lists:keydelete(Key, 1, Conf)]);
                nomatch ->
                    io:format("~s [error] Syntax error in ~s after line ~w column 1, parsing incomplete~n", [time_text(), File, N - 1]),
                    halt(1)
            end
    end.

%% EMQX_NODE__NAME overrides node.name; an empty one removes it.
environment(Conf) ->
    lists:foldl(fun("EMQX_" ++ Variable, Acc) ->
                        [Name, Value] = string:split(Variable, "="),
                        Key = string:lowercase(lists:flatten(string:replace(Name, "__", ".", all))),
                        case {string:str(Name, "__"), Value} of
                            {0, _} -> Acc;
                            {_, ""} -> lists:keydelete(Key, 1, Acc);
                            _ -> lists:keystore(Key, 1, Acc, {Key, Value})
                        end;
                   (_, Acc) -> Acc
                end, Conf, os:getenv()).

check(Conf, Keys) ->
    case [K || {K, _} <- Conf, not lists:any(fun(P) -> fits(string:split(K, ".", all), P) end, Keys)] of
        [] -> Conf;
        Unknown ->
            [io:format("~s [error] You've tried to set ~s, but there is no setting with that name.~n"
                       "~s [error]   Did you mean one of these?~n", [time_text(), K, time_text()]) || K <- Unknown],
            io:format("~s [error] Error generating configuration in phase transform_datatypes~n", [time_text()]),
            [io:format("~s [error] Conf file attempted to set unknown variable: ~s~n", [time_text(), K]) || K <- Unknown],
            halt(1)
    end.

fits([_ | T], ["$" | P]) -> fits(T, P);
fits([W | T], [W | P]) -> fits(T, P);
fits([], []) -> true;
fits(_, _) -> false.

generate(Conf, Dir) ->
    {{Y, Mo, D}, {H, Mi, S}} = calendar:local_time(),
    Stamp = io_lib:format("~4..0w.~2..0w.~2..0w.~2..0w.~2..0w.~2..0w", [Y, Mo, D, H, Mi, S]),
    App = filename:join(Dir, ["app.", Stamp, ".config"]),
    Vm = filename:join(Dir, ["vm.", Stamp, ".args"]),
    Get = fun(K, Default) -> proplists:get_value(K, Conf, Default) end,
    ok = file:write_file(App, io_lib:format("[{emqx, [{conf, ~p}]}].~n", [Conf ++ plugin_conf()])),
    ok = file:write_file(Vm, io_lib:format("-name ~s~n-setcookie ~s~n-pa /var/lib/emqx/patches~n-shutdown_time 30000~n",
                                           [Get("node.name", "emqx@127.0.0.1"), Get("node.cookie", "emqxsecretcookie")])),
    [keep_newest(Dir, Pattern) || Pattern <- ["app.*.config", "vm.*.args"]],
    io:format(" -config ~s -args_file ~s -vm_args ~s ~n", [App, Vm, Vm]).

%% Plugins' files, which the real node reads at plugin load.
plugin_conf() ->
    lists:append([parse(F) || F <- filelib:wildcard("/etc/emqx/plugins/*.conf")]).

keep_newest(Dir, Pattern) ->
    Files = lists:reverse(lists:sort(filelib:wildcard(filename:join(Dir, Pattern)))),
    [file:delete(F) || F <- lists:nthtail(min(3, length(Files)), Files)].

time_text() ->
    {_, {H, M, S}} = calendar:local_time(),
    io_lib:format("~2..0w:~2..0w:~2..0w.000", [H, M, S]).
