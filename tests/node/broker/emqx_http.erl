%% SPDX-License-Identifier: Apache-2.0
%% HTTP listeners of plugins: GET /status as facts 5.4 has it, 404 for all else.
-module(emqx_http).
-export([listen/2]).

listen(Name, Address) ->
    case emqx_listeners:open(Address, [{packet, http_bin} | emqx_listeners:listen_options()], fun serve/1) of
        {ok, Pid} ->
            ets:insert(emqx_listeners, {"http:" ++ Name, Address, Pid}),
            io:format("Start http:~s listener on ~s successfully.~n", [Name, Address]);
        {error, Reason} ->
            logger:error("Failed to start http:~s listener on ~s: ~p", [Name, Address, Reason])
    end,
    ok.


%% Who says nothing, or goes, is nobody's failure.
serve(Socket) ->
    case gen_tcp:recv(Socket, 0, 5000) of
        {ok, {http_request, Method, {abs_path, Path}, _}} -> answer(Socket, Method, Path);
        _ -> ok
    end,
    gen_tcp:close(Socket).

answer(Socket, Method, Path) ->
    headers(Socket),
    {Status, Body} = answer(Method, Path),
    gen_tcp:send(Socket, ["HTTP/1.1 ", Status, "\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: ",
                          integer_to_list(iolist_size(Body)), "\r\n\r\n", Body]).

headers(Socket) ->
    case gen_tcp:recv(Socket, 0, 5000) of
        {ok, http_eoh} -> inet:setopts(Socket, [{packet, raw}]);
        {ok, _} -> headers(Socket);
        {error, _} -> ok
    end.

answer('GET', <<"/status">>) ->
    {Internal, _} = init:get_status(),
    Running = lists:keymember(emqx, 1, application:which_applications()) andalso not emqx_app:knob(not_running, false),
    Status = case Running orelse not emqx_app:at_least(22, 11) of
                 true -> "200 OK";
                 false -> "503 Service Unavailable"
             end,
    {Status, io_lib:format("Node ~s is ~s\nemqx is ~s", [node(), Internal, case Running of true -> running; false -> not_running end])};
answer(_, _) -> {"404 Not Found", <<"not found">>}.
