%% SPDX-License-Identifier: Apache-2.0
%% The configuration's grammar and check (facts 3.6), used twice: as bin/cuttlefish
%%     -i SCHEMA -c CONF -d DIR generate | get KEY
%% and by the node for plugins' files. A schema is lines of `KEY TYPE [DEFAULT]`, where `$` stands for any one word.
-module(cuttlefish).
-export([main/1, load/2]).

%% {ok, [{Key, Value}]} with the defaults of the schema, or {error, Lines} as they are shown.
load(SchemaFile, ConfFile) ->
    Schema = schema(SchemaFile),
    case parse(ConfFile, main) of
        {ok, Parsed} -> check(environment(Parsed, Schema), Schema);
        {error, _} = Error -> Error
    end.

main(Args) ->
    {#{schema := Schema, conf := Conf} = Options, Verb} = options(Args, #{}),
    case {Verb, load(Schema, Conf)} of
        {_, {error, Lines}} ->
            [io:format("~s [error] ~ts~n", [time_text(), L]) || L <- Lines],
            halt(1);
        {["get", Key], {ok, Values}} ->
            case lists:keyfind(Key, 1, Values) of
                {_, Value} -> io:format("~ts~n", [Value]);
                false -> halt(1)
            end;
        {["generate"], {ok, Values}} -> generate(Values, maps:get(dir, Options))
    end.

options(["-i", V | T], O) -> options(T, O#{schema => V});
options(["-c", V | T], O) -> options(T, O#{conf => V});
options(["-d", V | T], O) -> options(T, O#{dir => V});
options(Rest, O) -> {O, Rest}.

%% [{Words, Type, Default | none}]
schema(File) ->
    {ok, Text} = file:read_file(File),
    [begin
         [Key, Type | Default] = string:split(Line, " ", all),
         {words(Key), Type, case Default of [] -> none; _ -> lists:flatten(lists:join(" ", Default)) end}
     end || Line <- string:lexemes(binary_to_list(Text), "\n")].

words(Key) -> string:split(Key, ".", all).

%% --- grammar ---

parse(File, Level) ->
    case file:read_file(File) of
        {ok, Text} ->
            try
                Lines = binary:split(Text, <<"\n">>, [global]),
                {ok, lines(Lines, 1, File, Level, [], [])}
            catch
                throw:Message -> {error, [Message]}
            end;
        {error, Reason} ->
            {error, [io_lib:format("Could not open file ~ts for Reason ~p", [File, Reason])]}
    end.

%% The last of duplicate keys wins; what is included loses against the file itself.
lines([], _, _, _, Conf, Included) ->
    Conf ++ [KV || {K, _} = KV <- Included, not lists:keymember(K, 1, Conf)];
lines([Line | Lines], N, File, Level, Conf, Included) ->
    %% White space at the end belongs to the value where no end of line follows.
    Ended = case Lines of [] -> Line; _ -> re:replace(Line, "[ \t]*\r?$", "", [{return, binary}]) end,
    case string:trim(Ended, leading, " \t") of
        <<>> -> lines(Lines, N + 1, File, Level, Conf, Included);
        <<"#", _/binary>> -> lines(Lines, N + 1, File, Level, Conf, Included);
        <<"include ", Path/binary>> when Level =:= main ->
            case parse(binary_to_list(string:trim(Path)), included) of
                {ok, More} -> lines(Lines, N + 1, File, Level, Conf, More ++ Included);
                {error, [Message]} -> throw(Message)
            end;
        Text ->
            case re:run(Text, "^((?:[A-Za-z0-9_@/:.-]|\\\\\\.)+)[ \t]*=[ \t]*(.+)$", [{capture, all_but_first, binary}]) of
                {match, [Key, Value]} ->
                    K = binary_to_list(Key),
                    lines(Lines, N + 1, File, Level, lists:keystore(K, 1, Conf, {K, latin1(Value, File, N)}), Included);
                nomatch ->
                    case re:run(Text, "^\\{\\{.*\\}\\}$") of
                        {match, _} -> lines(Lines, N + 1, File, Level, Conf, Included);
                        nomatch -> throw(syntax_error(File, N))
                    end
            end
    end.

latin1(Value, File, N) ->
    case unicode:characters_to_list(Value) of
        Text when is_list(Text) ->
            case lists:all(fun(C) -> C < 256 end, Text) of
                true -> Text;
                false -> throw(syntax_error(File, N))
            end;
        _ -> binary_to_list(Value)
    end.

syntax_error(File, N) ->
    lists:flatten(io_lib:format("Syntax error in ~ts after line ~w column 1, parsing incomplete", [File, N])).

%% --- environment: EMQX_NODE__NAME is node.name; an empty value removes, an unknown name is ignored ---

environment(Conf, Schema) ->
    case os:getenv("CUTTLEFISH_ENV_OVERRIDE_PREFIX") of
        false -> Conf;
        Prefix -> lists:foldl(fun(Variable, Acc) -> override(Variable, Prefix, Acc, Schema) end, Conf, os:getenv())
    end.

override(Variable, Prefix, Conf, Schema) ->
    [Name, Value] = string:split(Variable, "="),
    case string:prefix(Name, Prefix) of
        nomatch -> Conf;
        Rest ->
            Key = short_name(lists:flatten(string:replace(string:lowercase(Rest), "__", ".", all))),
            case {find(Key, Schema), Value} of
                {none, _} -> Conf;
                {_, ""} -> lists:keydelete(Key, 1, Conf);
                _ -> lists:keystore(Key, 1, Conf, {Key, Value})
            end
    end.

short_name("node_name") -> "node.name";
short_name("node_cookie") -> "node.cookie";
short_name("max_ports") -> "node.max_ports";
short_name("max_packet_size") -> "mqtt.max_packet_size";
short_name(Key) -> Key.

%% --- check ---

find(Key, Schema) ->
    Words = words(Key),
    case [Entry || {Pattern, _, _} = Entry <- Schema, fits(Words, Pattern)] of
        [Entry | _] -> Entry;
        [] -> none
    end.

fits([_ | T], ["$" | P]) -> fits(T, P);
fits([W | T], [W | P]) -> fits(T, P);
fits([], []) -> true;
fits(_, _) -> false.

check(Conf, Schema) ->
    case [K || {K, _} <- Conf, find(K, Schema) =:= none] of
        [] -> check_types([{K, substitute(V, Conf)} || {K, V} <- Conf], Schema);
        Unknown ->
            {error, lists:append([["You've tried to set " ++ K ++ ", but there is no setting with that name."
                                   | similar(K, Schema)] || K <- Unknown]) ++
                 ["Error generating configuration in phase transform_datatypes"] ++
                 ["Conf file attempted to set unknown variable: " ++ K || K <- Unknown]}
    end.

similar(Key, Schema) ->
    [First | _] = words(Key),
    case [lists:flatten(lists:join(".", Words)) || {[F | _] = Words, _, _} <- Schema, F =:= First] of
        [] -> [];
        Keys -> ["  Did you mean one of these?" | ["    " ++ K || K <- lists:sublist(Keys, 3)]]
    end.

substitute(Value, Conf) ->
    case re:run(Value, "^(.*)\\$\\(([^)]+)\\)(.*)$", [{capture, all_but_first, list}]) of
        {match, [Before, Key, After]} ->
            {_, Other} = lists:keyfind(string:trim(Key), 1, Conf ++ [{string:trim(Key), ""}]),
            substitute(Before ++ Other ++ After, Conf);
        nomatch -> Value
    end.

check_types(Conf, Schema) ->
    case [{K, V, T} || {K, V} <- Conf, {_, T, _} <- [find(K, Schema)], not is_type(T, V)] of
        [] ->
            Defaults = [{K, D} || {Words, _, D} <- Schema, D =/= none, not lists:member("$", Words),
                                  K <- [lists:flatten(lists:join(".", Words))], not lists:keymember(K, 1, Conf)],
            {ok, Conf ++ Defaults};
        Wrong ->
            {error, ["Error generating configuration in phase transform_datatypes"] ++
                 lists:append([["Error transforming datatype for: " ++ K, V ++ " cannot be converted to a(n) " ++ T]
                               || {K, V, T} <- Wrong])}
    end.

is_type("flag", V) -> lists:member(V, ["on", "off"]);
is_type("boolean", V) -> lists:member(V, ["true", "false"]);
is_type("integer", V) -> matches(V, "^-?[0-9]+$");
is_type("bytesize", V) -> matches(V, "^[0-9]+([kKmMgG][bB]?)?$");
is_type("duration", V) -> matches(V, "^([0-9]+(\\.[0-9]+)?(f|w|d|h|ms|m|s))+$");
is_type("listener", V) -> matches(V, "^(.+:)?[0-9]+$");
is_type("enum:" ++ Values, V) -> lists:member(V, string:split(Values, "|", all));
is_type(_, _) -> true.

matches(Text, Pattern) -> re:run(Text, Pattern) =/= nomatch.

%% --- generate ---

generate(Conf, Dir) ->
    Get = fun(K) -> proplists:get_value(K, Conf) end,
    {{Y, Mo, D}, {H, Mi, S}} = calendar:local_time(),
    Stamp = io_lib:format("~4..0w.~2..0w.~2..0w.~2..0w.~2..0w.~2..0w", [Y, Mo, D, H, Mi, S]),
    App = filename:join(Dir, ["app.", Stamp, ".config"]),
    Vm = filename:join(Dir, ["vm.", Stamp, ".args"]),
    %% The schema of a plugin has nothing for the kernel.
    Config = case Get("log.level") of undefined -> [{plugin, Conf}]; _ -> config(Conf) end,
    ok = file:write_file(App, io_lib:format("~tp.~n", [Config]), []),
    Arguments = [{"-name", "node.name"}, {"-setcookie", "node.cookie"}, {"+P", "node.process_limit"},
                 {"+Q", "node.max_ports"}, {"+A", "node.async_threads"}, {"-env ERL_CRASH_DUMP", "node.crash_dump"},
                 {"-kernel net_ticktime", "node.dist_net_ticktime"}],
    ok = file:write_file(Vm, [[A, " ", Get(K), "\n"] || {A, K} <- Arguments, Get(K) =/= undefined]),
    [keep_newest(Dir, Pattern) || Pattern <- ["app.*.config", "vm.*.args"]],
    io:format(" -config ~s -args_file ~s -vm_args ~s ~n", [App, Vm, Vm]).

config(Conf) ->
    Get = fun(K) -> proplists:get_value(K, Conf) end,
    [{kernel, [{logger_level, list_to_atom(Get("log.level"))}, {logger, log_handlers(Conf)}]},
              {ekka, [{cluster_autoclean, milliseconds(Get("cluster.autoclean"))}]},
              {emqx, [{conf, Conf}]}].

%% log.to: file means emqx.log.N and nothing on the console.
log_handlers(Conf) ->
    Get = fun(K) -> proplists:get_value(K, Conf) end,
    Formatter = {logger_formatter, #{single_line => false, time_designator => $T,
                                     template => [time, " [", level, "] ", msg, "\n"]}},
    File = filename:join(Get("log.dir"), Get("log.file")),
    Kind = case Get("log.rotation") of
               "on" -> #{type => wrap, file => File, max_no_files => list_to_integer(Get("log.rotation.count")),
                         max_no_bytes => bytes(Get("log.rotation.size"))};
               _ -> #{type => halt, file => File}
           end,
    To = Get("log.to"),
    [{handler, default, undefined} || To =:= "file" orelse To =:= "off"] ++
        [{handler, file, logger_disk_log_h, #{level => list_to_atom(Get("log.level")), config => Kind,
                                              formatter => Formatter}} || To =:= "file" orelse To =:= "both"].

bytes(Text) ->
    {match, [N, Unit]} = re:run(Text, "^([0-9]+)(.?)", [{capture, all_but_first, list}]),
    list_to_integer(N) * case string:lowercase(Unit) of "k" -> 1024; "m" -> 1048576; "g" -> 1073741824; "" -> 1 end.

milliseconds(Text) ->
    {match, Parts} = re:run(Text, "([0-9]+)(ms|[fwdhms])", [global, {capture, all_but_first, list}]),
    lists:sum([list_to_integer(N) * unit(U) || [N, U] <- Parts]).

unit("ms") -> 1;
unit("s") -> 1000;
unit("m") -> 60000;
unit("h") -> 3600000;
unit("d") -> 86400000;
unit("w") -> 604800000;
unit("f") -> 1209600000.

keep_newest(Dir, Pattern) ->
    Files = lists:reverse(lists:sort([{filelib:last_modified(F), F} || F <- filelib:wildcard(filename:join(Dir, Pattern))])),
    [file:delete(F) || {_, F} <- lists:nthtail(min(3, length(Files)), Files)].

time_text() ->
    {_, {H, M, S}} = calendar:local_time(),
    Ms = erlang:system_time(millisecond) rem 1000,
    io_lib:format("~2..0w:~2..0w:~2..0w.~3..0w", [H, M, S, Ms]).
