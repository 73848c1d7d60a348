%% SPDX-License-Identifier: Apache-2.0
%% listener.tcp.NAME = [ADDRESS:]PORT, each a process that owns the socket; its connections end with it.
-module(emqx_listeners).
-export([start/0, stop/0, all/0, address/1, open/3, listen_options/0]).

-define(TAB, emqx_listeners).

%% [{Id, Address, Pid}] with Id as emqx_ctl shows it.
all() -> lists:sort(ets:tab2list(?TAB)).

address(Text) ->
    case string:split(Text, ":", trailing) of
        [Port] -> {{0, 0, 0, 0}, list_to_integer(Port)};
        [Host, Port] ->
            {ok, Ip} = inet:parse_address(string:trim(Host, both, "[]")),
            {Ip, list_to_integer(Port)}
    end.

start() ->
    catch ets:new(?TAB, [named_table, public]),
    Tcp = [{Name, Address} || {Key, Address} <- emqx_app:conf(), ["listener", "tcp", Name] <- [string:split(Key, ".", all)],
           Name =/= emqx_app:knob(without_listener, none)],
    lists:foreach(fun start_tcp/1, lists:sort(Tcp)).

start_tcp({Name, Address}) ->
    case open(Address, listen_options(), fun emqx_mqtt:serve/1) of
        {ok, Pid} ->
            ets:insert(?TAB, {"mqtt:tcp:" ++ Name, Address, Pid}),
            io:format("Start mqtt:tcp:~s listener on ~s successfully.~n", [Name, Address]);
        {error, Reason} ->
            io:format(standard_error, "Failed to start mqtt listener mqtt:tcp:~s on ~s: ~0p~n", [Name, Address, Reason]),
            error(Reason)
    end.

listen_options() -> [binary, {active, false}, {reuseaddr, true}, {nodelay, true}, {backlog, 1024}].

%% {ok, Pid} of a process that accepts, until it is stopped, and runs Serve in a process for each connection.
open(Address, Options, Serve) ->
    {Ip, Port} = address(Address),
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    proc_lib:start(erlang, apply, [fun() -> own([Family, {ip, Ip} | Options], Port, Serve) end, []]).

own(Options, Port, Serve) ->
    process_flag(trap_exit, true),
    case gen_tcp:listen(Port, Options) of
        {ok, Socket} ->
            Owner = self(),
            spawn_link(fun() -> accept(Socket, Owner, Serve) end),
            proc_lib:init_ack({ok, Owner}),
            receive {stop, From} -> gen_tcp:close(Socket), From ! {stopped, Owner} end;
        {error, _} = Error ->
            proc_lib:init_ack(Error)
    end.

accept(Listen, Owner, Serve) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            Pid = spawn(fun() -> erlang:monitor(process, Owner), receive go -> Serve(Socket) end end),
            case gen_tcp:controlling_process(Socket, Pid) of
                ok -> Pid ! go;
                {error, _} -> exit(Pid, kill)
            end,
            accept(Listen, Owner, Serve);
        {error, closed} -> ok;
        {error, _} -> timer:sleep(10), accept(Listen, Owner, Serve)
    end.

stop() ->
    [begin Pid ! {stop, self()}, receive {stopped, Pid} -> ok end end || {_, _, Pid} <- all(), is_pid(Pid)],
    ets:match_delete(?TAB, {'_', '_', '_'}),
    ok.
