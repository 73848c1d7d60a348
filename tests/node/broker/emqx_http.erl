%% SPDX-License-Identifier: Apache-2.0
%% The management listener: GET /status as facts 5.4 has it, 404 for all else.
-module(emqx_http).
-export([listen/0, address/1]).

address(Text) ->
    case string:split(Text, ":", trailing) of
        [Port] -> {{0, 0, 0, 0}, list_to_integer(Port)};
        [Host, Port] -> {ok, Ip} = inet:parse_address(string:trim(Host, both, "[]")), {Ip, list_to_integer(Port)}
    end.

listen() ->
    Address = emqx_app:conf("management.listener.http", "8081"),
    {Ip, Port} = address(Address),
    {ok, Socket} = gen_tcp:listen(Port, [binary, {ip, Ip}, {active, false}, {reuseaddr, true}, {packet, http_bin}]),
    spawn(fun() -> accept(Socket) end),
    io:format("Start http:management listener on ~s successfully.~n", [Address]),
    ok.

accept(Listen) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            Pid = spawn(fun() -> receive go -> catch serve(Socket), gen_tcp:close(Socket) end end),
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! go,
            accept(Listen);
        {error, _} -> ok
    end.

serve(Socket) ->
    {ok, {http_request, Method, {abs_path, Path}, _}} = gen_tcp:recv(Socket, 0, 5000),
    headers(Socket),
    inet:setopts(Socket, [{packet, raw}]),
    {Code, Body} = answer(Method, Path),
    gen_tcp:send(Socket, ["HTTP/1.1 ", Code, "\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: ",
                          integer_to_list(iolist_size(Body)), "\r\n\r\n", Body]).

headers(Socket) ->
    case gen_tcp:recv(Socket, 0, 5000) of
        {ok, http_eoh} -> ok;
        {ok, _} -> headers(Socket)
    end.

answer('GET', <<"/status">>) ->
    Running = case whereis(emqx) of undefined -> "not_running"; _ -> "running" end,
    {"200 OK", io_lib:format("Node ~s is started\nemqx is ~s", [node(), Running])};
answer(_, _) -> {"404 Not Found", "not found"}.
