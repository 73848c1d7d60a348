%% SPDX-License-Identifier: Apache-2.0
%% The node's application. It boots in the order of facts 5.2: tables, listeners, plugins, modules, `is running now!`, so
%% that the MQTT port is open before the node is ready. What a variant does wrong stands in releases/VSN/knobs.
-module(emqx_app).
-behaviour(application).
-export([start/2, prep_stop/1, stop/1, get_release/0, description/0, knob/2, conf/2, conf/0, at_least/2]).
-export([init/0, shutdown/0, reboot/0]).

get_release() ->
    {ok, Version} = application:get_key(emqx, vsn),
    Version.

description() -> "EMQ X Broker".

%% Whether this release has what came with 4.3.X and 4.4.Y.
at_least(In43, In44) ->
    ["4", Minor, Patch] = string:split(get_release(), ".", all),
    list_to_integer(Patch) >= case Minor of "3" -> In43; "4" -> In44 end.

conf() -> application:get_env(emqx, conf, []).
conf(Key, Default) -> proplists:get_value(Key, conf(), Default).

knob(Name, Default) ->
    {ok, Knobs} = file:consult(filename:join([code:root_dir(), "releases", get_release(), "knobs"])),
    proplists:get_value(Name, Knobs, Default).

delay(Name) -> timer:sleep(knob(Name, 0)).

start(_Type, _Args) ->
    io:format("Starting emqx on node ~s~n", [node()]),
    case knob(no_start, false) of
        true -> {error, no_start};
        false ->
            delay(start_delay),
            ok = ekka_mnesia:start(),
            delay(table_delay),
            {ok, _} = Started = proc_lib:start_link(?MODULE, init, [], infinity),
            die(),
            Started
    end.

die() ->
    case knob(die_after, none) of
        none -> ok;
        Msec -> spawn(fun() -> timer:sleep(Msec), erlang:halt("dies as its knob says") end)
    end.

%% The process that owns what a stop or a change of cluster takes away.
init() ->
    register(emqx, self()),
    process_flag(trap_exit, true),
    ekka_autoclean:start_link(),
    boot(),
    proc_lib:init_ack({ok, self()}),
    loop().

boot() ->
    emqx_ctl:new(),
    emqx_alarm:new(),
    emqx_mqtt:new(),
    ok = emqx_listeners:start(),
    delay(plugin_delay),
    case knob(never_ready, false) of
        true -> timer:sleep(infinity);
        false -> ok
    end,
    ok = emqx_plugins:load(),
    ok = emqx_modules:load(),
    [emqx_alarm:activate(Name, "as its knob says") || Name <- [knob(alarm, none)], Name =/= none],
    [logger:error("~s", [Text]) || Text <- [knob(log_error, none)], Text =/= none],
    stuck_table(knob(stuck_table, none)),
    io:format("~s ~s is running now!~n", [description(), get_release()]),
    knob(unregistered, false) andalso unregister(emqx).

%% One that is not loaded, as where a peer that has it does not run: nobody may read it.
stuck_table(none) -> ok;
stuck_table(Name) ->
    ekka_mnesia:create_table(Name, {ram_copies, []}),
    mnesia_lib:set({Name, where_to_read}, nowhere).

loop() ->
    receive
        {publish, Message} -> emqx_mqtt:dispatch(Message), loop();
        {call, From, Ref, shutdown} ->
            emqx_listeners:stop(),
            emqx_plugins:unload(),
            From ! Ref,
            loop();
        {call, From, Ref, reboot} ->
            boot(),
            From ! Ref,
            loop();
        {'EXIT', _, shutdown} -> exit(shutdown);
        _ -> loop()
    end.

shutdown() -> call(shutdown).
reboot() -> call(reboot).

call(What) ->
    Ref = make_ref(),
    emqx ! {call, self(), Ref, What},
    receive Ref -> ok end.

prep_stop(State) ->
    delay(stop_delay),
    emqx_listeners:stop(),
    delay(exit_delay),
    State.

%% Mnesia is an application of its own, and stopped after this one.
stop(_State) -> ok.
