%% SPDX-License-Identifier: Apache-2.0
%% The test node's application: boots in the order of facts 5.2 (tables, listeners, plugins, modules, running), so that
%% the MQTT port is open before the node is ready. What a variant does wrong stands in releases/VSN/knobs.
-module(emqx_app).
-behaviour(application).
-export([start/2, stop/1, prep_stop/1, get_release/0, knob/2, conf/2, loaded/1]).
-export([init/0]).

get_release() -> {ok, V} = application:get_env(emqx, release), V.

conf(Key, Default) ->
    {ok, Conf} = application:get_env(emqx, conf),
    proplists:get_value(Key, Conf, Default).

knob(Name, Default) ->
    Root = code:root_dir(),
    case file:consult(filename:join([Root, "releases", get_release(), "knobs"])) of
        {ok, Knobs} -> proplists:get_value(Name, Knobs, Default);
        _ -> Default
    end.

delay(Name) -> timer:sleep(knob(Name, 0)).

start(_Type, _Args) ->
    io:format("Starting emqx on node ~s~n", [node()]),
    case knob(no_start, false) of
        true ->
            io:format("{\"Kernel pid terminated\",application_controller,\"{application_start_failure,emqx}\"}~n"),
            erlang:halt(1, [{flush, true}]);
        false -> ok
    end,
    delay(start_delay),
    ok = emqx_tables:open(),
    delay(table_delay),
    Pid = proc_lib:spawn_link(?MODULE, init, []),
    register(emqx, Pid),
    ok = emqx_mqtt:listen(conf("listener.tcp.external", "0.0.0.0:1883")),
    delay(plugin_delay),
    case knob(never_ready, false) of
        true -> {ok, Pid};
        false -> {ok, load_the_rest(Pid)}
    end.

load_the_rest(Pid) ->
    emqx_ctl:new(),
    Known = ["emqx_management", "emqx_dashboard", "emqx_modules", "emqx_recon", "emqx_retainer", "emqx_telemetry",
             "emqx_rule_engine", "emqx_bridge_mqtt"],
    case [P || P <- loaded("loaded_plugins"), not lists:member(P, Known)] of
        [] -> ok;
        Unknown -> emqx_log:write(alert, "cannot_find_plugins: ~p", [Unknown])
    end,
    case lists:member("emqx_management", loaded("loaded_plugins")) of
        true -> ok = emqx_http:listen(), emqx_ctl:register_commands();
        false -> ok
    end,
    persistent_term:put(emqx_state, started),
    io:format("EMQ X Broker ~s is running now!~n", [get_release()]),
    case knob(die_after, none) of
        none -> ok;
        Ms -> spawn(fun() -> timer:sleep(Ms), erlang:halt("test node: dies as told", [{flush, true}]) end)
    end,
    Pid.

%% Delivers what other nodes publish.
init() ->
    proc_lib:init_ack({ok, self()}),
    loop().

loop() ->
    receive
        {publish, Topic, Payload, Qos} -> emqx_mqtt:dispatch(Topic, Payload, Qos), loop();
        stop -> ok;
        _ -> loop()
    end.

prep_stop(State) -> delay(stop_delay), State.

stop(_State) -> ok.

%% Names that are active in loaded_plugins or loaded_modules: `{name, true}.` or `name.` (facts 4.1).
loaded(File) ->
    {ok, Dir} = application:get_env(emqx, runner_data_dir),
    Path = filename:join(Dir, File),
    case file:consult(Path) of
        {ok, Terms} -> [atom_to_list(N) || T <- Terms, N <- case T of {A, true} -> [A]; {_, _} -> []; A -> [A] end];
        {error, enoent} when File =:= "loaded_plugins" -> file:write_file(Path, <<>>), [];
        {error, Reason} -> emqx_log:write(alert, "Failed to read: ~p, error: ~p", [Path, Reason]), []
    end.
