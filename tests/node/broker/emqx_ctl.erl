%% SPDX-License-Identifier: Apache-2.0
%% emqx_ctl: what it prints goes to the caller, whose group leader the RPC has taken along. A function that ran is
%% success whatever it said; an unknown command is help and failure, also while the management plugin is not up.
-module(emqx_ctl).
-export([new/0, register_commands/0, run_command/1]).

new() -> ets:new(emqx_command, [named_table, public]), ok.

register_commands() ->
    [ets:insert(emqx_command, {C}) || C <- ["status", "broker", "listeners", "cluster", "plugins", "modules", "mnesia"]],
    ok.

run_command([Command | Args]) ->
    case ets:match(emqx_command, {Command}) of
        [] -> help();
        _ -> command(Command, Args)
    end;
run_command([]) -> help().

help() ->
    io:format("Usage: ~s~n", ["./bin/emqx_ctl"]),
    [io:format("~s~n", [C]) || {C} <- lists:sort(ets:tab2list(emqx_command))],
    {error, cmd_not_found}.

command("status", []) ->
    io:format("Node ~p ~s is ~p~n", [node(), emqx_app:get_release(), persistent_term:get(emqx_state, starting)]);
command("broker", []) ->
    [io:format("~-10s: ~s~n", [K, V]) || {K, V} <- [{"sysdescr", "EMQ X Broker"}, {"version", emqx_app:get_release()},
                                                     {"uptime", uptime()}, {"datetime", datetime()}]], ok;
command("broker", ["stats"]) ->
    [io:format("~-30s: ~w~n", [K, V]) || {K, V} <- [{"connections.count", emqx_mqtt:count()},
                                                     {"retained.count", length(emqx_tables:retained())}]], ok;
command("listeners", []) ->
    io:format("mqtt:tcp:external~n  listen_on       : ~s~n  acceptors       : 8~n  max_conns       : 1024000~n"
              "  current_conn    : ~w~n  shutdown_count  : []~n",
              [emqx_app:conf("listener.tcp.external", "0.0.0.0:1883"), emqx_mqtt:count()]),
    io:format("http:management~n  listen_on       : 0.0.0.0:~s~n", [emqx_app:conf("management.listener.http", "8081")]);
command("cluster", ["status"]) -> io:format("Cluster status: ~p~n", [emqx_tables:cluster_status()]);
command("cluster", ["join", Peer]) ->
    case emqx_tables:join(list_to_atom(Peer)) of
        ok -> io:format("Join the cluster successfully.~n"), command("cluster", ["status"]);
        {error, Reason} -> io:format("Failed to join the cluster: ~0p~n", [Reason])
    end;
command("plugins", ["list"]) ->
    Active = emqx_app:loaded("loaded_plugins"),
    [io:format("Plugin(~s, description=EMQ X test plugin, active=~p)~n", [P, lists:member(P, Active)])
     || P <- ["emqx_bridge_mqtt", "emqx_dashboard", "emqx_management", "emqx_modules", "emqx_recon", "emqx_retainer",
              "emqx_rule_engine", "emqx_telemetry"]], ok;
command("modules", ["list"]) ->
    Active = emqx_app:loaded("loaded_modules"),
    [io:format("Module(~s, description=EMQ X test module, active=~p)~n", [M, lists:member(M, Active)])
     || M <- ["emqx_mod_acl_internal", "emqx_mod_presence"]], ok;
command("mnesia", []) -> mnesia:system_info();
command(_, _) -> help().

uptime() ->
    {Ms, _} = statistics(wall_clock),
    io_lib:format("~w minutes, ~w seconds", [Ms div 60000, Ms div 1000 rem 60]).

datetime() ->
    {{Y, Mo, D}, {H, Mi, S}} = calendar:local_time(),
    io_lib:format("~4..0w-~2..0w-~2..0w ~2..0w:~2..0w:~2..0w", [Y, Mo, D, H, Mi, S]).
