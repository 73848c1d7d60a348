%% SPDX-License-Identifier: Apache-2.0
%% The commands of the management plugin, with the output of facts 5.3.
-module(emqx_mgmt_cli).
-export([load/0]).

load() ->
    Commands = [{"status", fun status/1}, {"broker", fun broker/1}, {"listeners", fun listeners/1},
                {"cluster", fun cluster/1}, {"plugins", fun plugins/1}, {"modules", fun modules/1},
                {"mnesia", fun(_) -> mnesia:system_info() end}],
    [emqx_ctl:register_command(Name, Fun) || {Name, Fun} <- Commands],
    ok.

usage(Lines) -> [io:format("~s~n", [L]) || L <- Lines].

status([]) ->
    {Internal, _} = init:get_status(),
    io:format("Node ~p ~s is ~p~n", [node(), emqx_app:get_release(), Internal]);
status(_) -> usage(["status    # Show broker status"]).

broker([]) ->
    [io:format("~-10s: ~s~n", [K, V]) || {K, V} <- [{"sysdescr", emqx_app:description()},
                                                     {"version", emqx_app:knob(says_version, emqx_app:get_release())},
                                                     {"uptime", uptime()}, {"datetime", datetime()}]];
broker(["stats"]) ->
    Connections = emqx_mqtt:count(connections),
    Subscriptions = emqx_mqtt:count(subscriptions),
    Values = [{"channels", Connections}, {"connections", Connections}, {"sessions", Connections},
              {"retained", length(emqx_retainer:all())}, {"subscriptions", Subscriptions}, {"suboptions", Subscriptions},
              {"subscribers", Subscriptions}, {"subscriptions.shared", 0}, {"routes", Subscriptions},
              {"topics", Subscriptions}] ++
        [{"live_connections", Connections} || lists:prefix("4.4.", emqx_app:get_release())],
    [io:format("~-30s: ~w~n", [K ++ S, V]) || {K, V} <- lists:sort(Values), S <- [".count", ".max"]];
broker(_) -> usage(["broker         # Show broker version, uptime and description",
                    "broker stats   # Show broker statistics of clients, topics, subscribers"]).

uptime() ->
    {Msec, _} = statistics(wall_clock),
    Seconds = Msec div 1000,
    io_lib:format("~w minutes, ~w seconds", [Seconds div 60, Seconds rem 60]).

datetime() ->
    {{Y, Mo, D}, {H, Mi, S}} = calendar:local_time(),
    io_lib:format("~4..0w-~2..0w-~2..0w ~2..0w:~2..0w:~2..0w", [Y, Mo, D, H, Mi, S]).

listeners([]) ->
    [begin
         io:format("~s~n", [Id]),
         Current = case Id of "mqtt:" ++ _ -> emqx_mqtt:count(connections); _ -> 0 end,
         [io:format("  ~-16s: ~s~n", [K, V]) || {K, V} <- [{"listen_on", Address}, {"acceptors", "8"}, {"max_conns", "1024000"},
                                                          {"current_conn", integer_to_list(Current)},
                                                          {"shutdown_count", "[]"}]]
     end || {Id, Address, _} <- emqx_listeners:all()];
listeners(_) -> usage(["listeners                        # List listeners"]).

cluster(["status"]) -> io:format("Cluster status: ~p~n", [ekka_mnesia:status()]);
cluster(["join", Name]) ->
    Peer = list_to_atom(Name),
    case joinable(Peer) of
        ok ->
            logger:critical("[EMQ X] emqx shutdown for ~s", [join]),
            emqx_app:shutdown(),
            ok = ekka_mnesia:join(Peer),
            emqx_app:reboot(),
            io:format("Join the cluster successfully.~n"),
            cluster(["status"]);
        {error, Reason} -> io:format("Failed to join the cluster: ~0p~n", [Reason])
    end;
cluster(["leave"]) ->
    case maps:get(running_nodes, ekka_mnesia:status()) of
        [_] -> io:format("Failed to leave the cluster: ~0p~n", [node_not_in_cluster]);
        _ ->
            logger:critical("[EMQ X] emqx shutdown for ~s", [leave]),
            emqx_app:shutdown(),
            ok = ekka_mnesia:leave(),
            emqx_app:reboot(),
            io:format("Leave the cluster successfully.~n"),
            cluster(["status"])
    end;
cluster(["force-leave", Name]) ->
    Node = list_to_atom(Name),
    case lists:member(Node, maps:get(stopped_nodes, ekka_mnesia:status())) of
        true ->
            ok = ekka_mnesia:force_leave(Node),
            io:format("Remove the node from cluster successfully.~n"),
            cluster(["status"]);
        false -> io:format("Failed to remove the node from cluster: ~0p~n", [node_not_in_cluster])
    end;
cluster(_) -> usage(["cluster join <Node>         # Join the cluster", "cluster leave               # Leave the cluster",
                     "cluster force-leave <Node>  # Force the node leave from cluster",
                     "cluster status              # Cluster status"]).

joinable(Peer) when Peer =:= node() -> {error, {cannot_join_with_self, Peer}};
joinable(Peer) ->
    case {lists:member(Peer, mnesia:system_info(db_nodes)), net_adm:ping(Peer)} of
        {true, _} -> {error, {already_in_cluster, Peer}};
        {_, pang} -> {error, {node_down, Peer}};
        {_, pong} -> ok
    end.

plugins(["list"]) ->
    [io:format("Plugin(~s, description=~s, active=~p)~n", [N, D, A]) || {N, D, A} <- emqx_plugins:list()];
plugins([Verb, Name]) when Verb =:= "load"; Verb =:= "unload" ->
    case emqx_plugins:set(list_to_atom(Name), Verb =:= "load") of
        ok -> io:format("Plugin ~s ~sed successfully.~n", [Name, Verb]);
        {error, Reason} -> io:format("Plugin ~s ~s error: ~p~n", [Name, Verb, Reason])
    end;
plugins(_) -> usage(["plugins list            # Show loaded plugins", "plugins load <Plugin>   # Load plugin",
                     "plugins unload <Plugin> # Unload plugin"]).

modules(["list"]) ->
    [io:format("Module(~s, description=~s, active=~p)~n", [N, D, A]) || {N, D, A} <- emqx_modules:list()];
modules(_) -> usage(["modules list            # Show loaded modules"]).
