%% SPDX-License-Identifier: Apache-2.0
%% Plugins: applications lib/APP-V with priv/APP.schema; their files are read when they are loaded (facts 3.6, 4.1).
-module(emqx_plugins).
-export([load/0, unload/0, list/0, is_active/1, set/2, loaded/1, write_loaded/2]).

-define(TAB, emqx_plugins).

load() ->
    catch ets:new(?TAB, [named_table, public]),
    File = emqx_app:conf("plugins.loaded_file", "/var/lib/emqx/loaded_plugins"),
    Names = case loaded(File) of
                {ok, Entries} -> [N || {N, true} <- Entries];
                {error, _} -> ok = write_loaded(File, []), []
            end,
    case [N || N <- Names, not lists:member(N, known())] of
        [] -> ok;
        Missing -> logger:alert("cannot_find_plugins: ~p", [Missing])
    end,
    [load(N) || N <- Names, lists:member(N, known()), N =/= emqx_app:knob(without_plugin, none)],
    ok.

known() ->
    lists:sort([list_to_atom(filename:basename(F, ".schema"))
                || F <- filelib:wildcard(filename:join([code:root_dir(), "lib", "*", "priv", "emqx_*.schema"]))]).

directory(Name) ->
    [Dir] = filelib:wildcard(filename:join([code:root_dir(), "lib", atom_to_list(Name) ++ "-[0-9]*"])),
    Dir.

load(Name) ->
    Etc = filename:join(emqx_app:conf("plugins.etc_dir", "/etc/emqx/plugins/"), atom_to_list(Name) ++ ".conf"),
    Own = filename:join([directory(Name), "etc", atom_to_list(Name) ++ ".conf"]),
    Schema = filename:join([directory(Name), "priv", atom_to_list(Name) ++ ".schema"]),
    case cuttlefish:load(Schema, case filelib:is_file(Etc) of true -> Etc; false -> Own end) of
        {ok, Conf} ->
            ok = start(Name, Conf),
            ets:insert(?TAB, {Name, Conf}),
            ok;
        {error, Lines} ->
            logger:alert("Plugin ~s load failed with ~ts", [Name, lists:join("; ", Lines)]),
            {error, conf}
    end.

start(emqx_management, Conf) ->
    ok = emqx_http:listen("management", proplists:get_value("management.listener.http", Conf)),
    emqx_mgmt_cli:load();
start(emqx_dashboard, Conf) -> emqx_http:listen("dashboard", proplists:get_value("dashboard.listener.http", Conf));
start(emqx_retainer, Conf) -> emqx_retainer:load(Conf);
start(emqx_rule_engine, _) -> emqx_rule_engine:load();
start(_, _) -> ok.

unload() ->
    ets:delete_all_objects(?TAB),
    ok.

is_active(Name) -> ets:info(?TAB) =/= undefined andalso ets:member(?TAB, Name).

%% [{Name, Description, Active}]
list() ->
    [begin
         {ok, [{application, Name, Keys}]} =
             file:consult(filename:join([directory(Name), "ebin", atom_to_list(Name) ++ ".app"])),
         {Name, proplists:get_value(description, Keys), is_active(Name)}
     end || Name <- known()].

%% emqx_ctl plugins load | unload
set(Name, Active) ->
    case lists:member(Name, known()) of
        false -> {error, not_found};
        true ->
            case Active of
                true -> load(Name);
                false -> ets:delete(?TAB, Name)
            end,
            File = emqx_app:conf("plugins.loaded_file", "/var/lib/emqx/loaded_plugins"),
            {ok, Entries} = loaded(File),
            write_loaded(File, lists:keystore(Name, 1, Entries, {Name, Active}))
    end.

%% {ok, [{Name, Active}]}: `{name, true}.` or `name.`, one in a line.
loaded(File) ->
    case file:consult(File) of
        {ok, Terms} -> {ok, [case T of {_, _} -> T; _ -> {T, true} end || T <- Terms]};
        {error, _} = Error -> Error
    end.

write_loaded(File, Entries) -> file:write_file(File, [io_lib:format("~p.~n", [E]) || E <- Entries]).
