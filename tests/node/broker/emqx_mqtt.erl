%% SPDX-License-Identifier: Apache-2.0
%% MQTT 3.1.1: CONNECT, PUBLISH at QoS 0 and 1, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT; retained messages. A
%% process per connection; subscriptions in one table of {Filter, Pid, QoS}.
-module(emqx_mqtt).
-export([listen/1, dispatch/3, count/0]).

-define(TAB, emqx_subscription).

listen(Address) ->
    {Ip, Port} = emqx_http:address(Address),
    ets:new(?TAB, [named_table, public, bag]),
    case gen_tcp:listen(Port, [binary, {ip, Ip}, {active, false}, {reuseaddr, true}, {nodelay, true}, {backlog, 1024}]) of
        {ok, Socket} ->
            spawn(fun() -> accept(Socket) end),
            io:format("Start mqtt:tcp:external listener on ~s successfully.~n", [Address]),
            ok;
        {error, Reason} ->
            io:format("Failed to start mqtt listener tcp:external on ~s: ~p~n", [Address, Reason]),
            emqx_log:write(error, "Failed to start mqtt listener tcp:external on ~s: ~p", [Address, Reason]),
            erlang:halt(1, [{flush, true}])
    end.

count() -> length(lists:usort([P || {_, P, _} <- ets:tab2list(?TAB)])).

accept(Listen) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            Pid = spawn(fun() -> receive go -> serve(Socket) end end),
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! go,
            accept(Listen);
        {error, _} -> ok
    end.

serve(Socket) ->
    %% A mute variant accepts and says nothing, for ever.
    case emqx_app:knob(mute, false) of
        true -> timer:sleep(infinity);
        false -> inet:setopts(Socket, [{active, true}]), loop(Socket, <<>>, 1)
    end.

loop(Socket, Buffer, Id) ->
    case packet(Buffer) of
        {Type, Flags, Body, Rest} ->
            case handle(Type, Flags, Body, Socket) of
                ok -> loop(Socket, Rest, Id);
                stop -> bye(Socket)
            end;
        more ->
            receive
                {tcp, Socket, Data} -> loop(Socket, <<Buffer/binary, Data/binary>>, Id);
                {tcp_closed, Socket} -> bye(Socket);
                {tcp_error, Socket, _} -> bye(Socket);
                {deliver, Topic, Payload, Qos} ->
                    send(Socket, publish(Topic, Payload, Qos, 0, Id)),
                    loop(Socket, Buffer, Id rem 65535 + 1)
            end;
        bad -> bye(Socket)
    end.

bye(Socket) ->
    ets:match_delete(?TAB, {'_', self(), '_'}),
    gen_tcp:close(Socket).

packet(<<Type:4, Flags:4, Rest/binary>>) -> body(Type, Flags, Rest, 0, 1, 4);
packet(_) -> more.

body(_, _, _, _, _, 0) -> bad;
body(Type, Flags, <<1:1, Low:7, Rest/binary>>, Sum, Unit, N) -> body(Type, Flags, Rest, Sum + Low * Unit, Unit * 128, N - 1);
body(Type, Flags, <<0:1, Low:7, Rest/binary>>, Sum, Unit, _) ->
    Length = Sum + Low * Unit,
    case Rest of
        <<Body:Length/binary, More/binary>> -> {Type, Flags, Body, More};
        _ -> more
    end;
body(_, _, _, _, _, _) -> more.

encode(Type, Flags, Body) -> [<<Type:4, Flags:4>>, size_bytes(iolist_size(Body)), Body].

size_bytes(N) when N < 128 -> <<N>>;
size_bytes(N) -> [<<1:1, (N rem 128):7>>, size_bytes(N div 128)].

send(Socket, Data) -> gen_tcp:send(Socket, Data).

publish(Topic, Payload, 0, Retain, _) ->
    encode(3, Retain, [<<(byte_size(Topic)):16>>, Topic, Payload]);
publish(Topic, Payload, 1, Retain, Id) ->
    encode(3, 2 + Retain, [<<(byte_size(Topic)):16>>, Topic, <<Id:16>>, Payload]).

handle(1, _, <<4:16, "MQTT", _/binary>>, Socket) -> send(Socket, encode(2, 0, <<0, 0>>)), ok;
handle(1, _, _, Socket) -> send(Socket, encode(2, 0, <<0, 1>>)), stop;
handle(3, Flags, <<N:16, Topic:N/binary, Rest/binary>>, Socket) ->
    {Qos, Payload} = case (Flags bsr 1) band 3 of
                         0 -> {0, Rest};
                         _ -> <<Id:16, P/binary>> = Rest, {{1, Id}, P}
                     end,
    Flags band 1 =:= 1 andalso emqx_tables:retain(Topic, Payload),
    Plain = case Qos of 0 -> 0; _ -> 1 end,
    dispatch(Topic, Payload, Plain),
    [{emqx, Node} ! {publish, Topic, Payload, Plain} || Node <- mnesia:system_info(running_db_nodes), Node =/= node()],
    case Qos of
        {1, Ack} -> send(Socket, encode(4, 0, <<Ack:16>>));
        0 -> ok
    end,
    ok;
handle(4, _, _, _) -> ok;
handle(8, _, <<Id:16, Filters/binary>>, Socket) ->
    List = filters(Filters, 1),
    [ets:insert(?TAB, {split(F), self(), Qos}) || {F, Qos} <- List],
    send(Socket, encode(9, 0, [<<Id:16>>, [Qos || {_, Qos} <- List]])),
    [send(Socket, publish(T, P, 0, 1, 0)) || {F, _} <- List, {T, P} <- lists:sort(emqx_tables:retained()),
                                            match(split(T), split(F))],
    ok;
handle(10, _, <<Id:16, Filters/binary>>, Socket) ->
    [ets:match_delete(?TAB, {split(F), self(), '_'}) || {F, _} <- filters(Filters, 0)],
    send(Socket, encode(11, 0, <<Id:16>>)),
    ok;
handle(12, _, _, Socket) -> send(Socket, encode(13, 0, <<>>)), ok;
handle(_, _, _, _) -> stop.

filters(<<N:16, F:N/binary, Qos, Rest/binary>>, 1) -> [{F, min(Qos, 1)} | filters(Rest, 1)];
filters(<<N:16, F:N/binary, Rest/binary>>, 0) -> [{F, 0} | filters(Rest, 0)];
filters(<<>>, _) -> [].

split(Topic) -> binary:split(Topic, <<"/">>, [global]).

match(_, [<<"#">>]) -> true;
match([_ | T], [<<"+">> | F]) -> match(T, F);
match([W | T], [W | F]) -> match(T, F);
match([], []) -> true;
match(_, _) -> false.

dispatch(Topic, Payload, Qos) ->
    Words = split(Topic),
    [Pid ! {deliver, Topic, Payload, min(Qos, Max)} || {Filter, Pid, Max} <- ets:tab2list(?TAB), match(Words, Filter)],
    ok.
