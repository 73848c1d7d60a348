%% SPDX-License-Identifier: Apache-2.0
%% MQTT 3.1.1: CONNECT, PUBLISH at QoS 0 and 1, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT; retained messages. One
%% process for each connection. A session ends with its connection. QoS 2 and wills are not served.
-module(emqx_mqtt).
-export([new/0, serve/1, dispatch/1, count/1]).

-define(SUBSCRIPTIONS, emqx_subscription).      %% {Words, Pid, Qos}
-define(CLIENTS, emqx_channel).                 %% {ClientId, Pid}

-record(s, {socket, client, keepalive_ms = infinity, id = 1}).

new() ->
    catch ets:new(?SUBSCRIPTIONS, [named_table, public, bag]),
    catch ets:new(?CLIENTS, [named_table, public]),
    ok.

count(connections) -> ets:info(?CLIENTS, size);
count(subscriptions) -> ets:info(?SUBSCRIPTIONS, size).

serve(Socket) ->
    case emqx_app:knob(mute, false) of
        true -> receive {'DOWN', _, _, _, _} -> ok end;
        false ->
            case inet:setopts(Socket, [{active, true}]) of
                ok -> loop(#s{socket = Socket}, <<>>);
                {error, _} -> gen_tcp:close(Socket) %% it has gone
            end
    end.

loop(#s{socket = Socket} = S, Buffer) ->
    case packet(Buffer) of
        {Type, Flags, Body, Rest} ->
            case handle(Type, Flags, Body, S) of
                #s{} = Next -> loop(Next, Rest);
                stop -> bye(S)
            end;
        bad -> bye(S);
        more ->
            receive
                {tcp, Socket, Data} -> loop(S, <<Buffer/binary, Data/binary>>);
                {deliver, Message, Qos} -> loop(deliver(Message, Qos, 0, S), Buffer);
                {tcp_closed, Socket} -> bye(S);
                {tcp_error, Socket, _} -> bye(S);
                taken_over -> bye(S);
                {'DOWN', _, _, _, _} -> bye(S)
            after S#s.keepalive_ms -> bye(S)
            end
    end.

bye(#s{socket = Socket, client = Client}) ->
    ets:match_delete(?SUBSCRIPTIONS, {'_', self(), '_'}),
    ets:delete_object(?CLIENTS, {Client, self()}),
    gen_tcp:close(Socket).

%% --- packets ---

packet(<<Type:4, Flags:4, Rest/binary>>) -> body(Type, Flags, Rest, 0, 1);
packet(_) -> more.

body(_, _, _, _, 268435456) -> bad;
body(Type, Flags, <<1:1, Low:7, Rest/binary>>, Sum, Unit) -> body(Type, Flags, Rest, Sum + Low * Unit, Unit * 128);
body(Type, Flags, <<0:1, Low:7, Rest/binary>>, Sum, Unit) ->
    Length = Sum + Low * Unit,
    case Rest of
        <<Body:Length/binary, More/binary>> -> {Type, Flags, Body, More};
        _ -> more
    end;
body(_, _, <<>>, _, _) -> more.

send(#s{socket = Socket}, Type, Flags, Body) ->
    gen_tcp:send(Socket, [<<Type:4, Flags:4>>, length_bytes(iolist_size(Body)), Body]).

length_bytes(N) when N < 128 -> <<N>>;
length_bytes(N) -> [<<1:1, (N rem 128):7>>, length_bytes(N div 128)].

%% --- handling ---

handle(1, _, <<4:16, "MQTT", 4, _, Rest/binary>>, S) -> connect(Rest, S);
handle(1, _, <<6:16, "MQIsdp", 3, _, Rest/binary>>, S) -> connect(Rest, S);
handle(1, _, _, S) -> send(S, 2, 0, <<0, 1>>), stop;    %% unacceptable protocol version
handle(_, _, _, #s{client = undefined}) -> stop;
handle(3, Flags, <<N:16, Topic:N/binary, Rest/binary>>, S) ->
    case {(Flags bsr 1) band 3, Rest} of
        {0, Payload} -> publish({Topic, Payload, 0}, Flags band 1), S;
        {1, <<Id:16, Payload/binary>>} ->
            publish({Topic, Payload, 1}, Flags band 1),
            send(S, 4, 0, <<Id:16>>),
            S;
        _ -> stop
    end;
handle(4, _, _, S) -> S;
handle(8, _, <<Id:16, Text/binary>>, S) ->
    Filters = [{words(F), min(Qos, 1)} || <<N:16, F:N/binary, Qos>> <= Text],
    [begin
         ets:match_delete(?SUBSCRIPTIONS, {F, self(), '_'}),
         ets:insert(?SUBSCRIPTIONS, {F, self(), Qos})
     end || {F, Qos} <- Filters],
    send(S, 9, 0, [<<Id:16>>, [Qos || {_, Qos} <- Filters]]),
    lists:foldl(fun({Message, Max}, Acc) -> deliver(Message, Max, 1, Acc) end, S,
                [{M, Qos} || {F, Qos} <- Filters, {T, _, _} = M <- emqx_retainer:all(), match(words(T), F)]);
handle(10, _, <<Id:16, Text/binary>>, S) ->
    [ets:match_delete(?SUBSCRIPTIONS, {words(F), self(), '_'}) || <<N:16, F:N/binary>> <= Text],
    send(S, 11, 0, <<Id:16>>),
    S;
handle(12, _, _, S) -> send(S, 13, 0, <<>>), S;
handle(_, _, _, _) -> stop.

connect(<<KeepAlive:16, N:16, Name:N/binary, _/binary>>, S) ->
    Client = case Name of <<>> -> make_ref(); _ -> Name end,
    [Pid ! taken_over || {_, Pid} <- ets:lookup(?CLIENTS, Client)],
    ets:insert(?CLIENTS, {Client, self()}),
    send(S, 2, 0, <<0, 0>>),
    S#s{client = Client, keepalive_ms = case KeepAlive of 0 -> infinity; _ -> KeepAlive * 1500 end};
connect(_, _) -> stop.

publish({Topic, Payload, Qos} = Message, Retain) ->
    Retain =:= 1 andalso emqx_retainer:store(Topic, Payload, Qos),
    dispatch(Message),
    [{emqx, Node} ! {publish, Message} || Node <- lists:delete(node(), mnesia:system_info(running_db_nodes))],
    ok.

%% To the clients of this node.
dispatch({Topic, _, _} = Message) ->
    Words = words(Topic),
    [Pid ! {deliver, Message, Max} || {Filter, Pid, Max} <- ets:tab2list(?SUBSCRIPTIONS), match(Words, Filter)],
    ok.

deliver({Topic, Payload, Qos}, Max, Retain, #s{id = Id} = S) ->
    Head = [<<(byte_size(Topic)):16>>, Topic],
    case min(Qos, Max) of
        0 -> send(S, 3, Retain, [Head, Payload]), S;
        1 -> send(S, 3, 2 + Retain, [Head, <<Id:16>>, Payload]), S#s{id = Id rem 65535 + 1}
    end.

words(Topic) -> binary:split(Topic, <<"/">>, [global]).

match([<<"$", _/binary>> | _], [Wild | _]) when Wild =:= <<"#">>; Wild =:= <<"+">> -> false;
match(Topic, Filter) -> match_words(Topic, Filter).

match_words(_, [<<"#">>]) -> true;
match_words([_ | T], [<<"+">> | F]) -> match_words(T, F);
match_words([W | T], [W | F]) -> match_words(T, F);
match_words([], []) -> true;
match_words(_, _) -> false.
