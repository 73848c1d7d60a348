%% SPDX-License-Identifier: Apache-2.0
%% bin/nodetool NODE COOKIE VERB ARGS…: what bin/emqx asks a node. Outputs and exit statuses are those of facts 3.2.
-module(nodetool).
-export([main/1]).

-define(RPC_TIMEOUT_MSEC, 60000).

main([Target, Cookie, Verb | Args]) ->
    Node = list_to_atom(Target),
    [_, Host] = string:split(Target, "@"),
    Self = list_to_atom("maint" ++ os:getpid() ++ "@" ++ Host),
    {ok, _} = net_kernel:start(Self, #{name_domain => longnames, hidden => true, dist_listen => false}),
    erlang:set_cookie(node(), list_to_atom(Cookie)),
    case net_adm:ping(Node) of
        pong -> run(Verb, Args, Node);
        pang ->
            io:format(standard_error, "Node ~p not responding to pings.~n", [Node]),
            halt(1)
    end,
    halt(0).

run("ping", [], _) -> io:format("pong~n");
run("getpid", [], Node) -> io:format("~s~n", [call(Node, os, getpid, [])]);
run("pid_and_stop", [], Node) ->
    io:format("~s~n", [call(Node, os, getpid, [])]),
    io:format("~p~n", [call(Node, init, stop, [])]);
run("rpc", [M, F | Args], Node) -> command(M, F, Args, Node, ?RPC_TIMEOUT_MSEC);
run("rpc_infinity", [M, F | Args], Node) -> command(M, F, Args, Node, infinity);
run("rpcterms", [M, F, Text], Node) ->
    {ok, Tokens, _} = erl_scan:string("[" ++ Text ++ "]."),
    {ok, Args} = erl_parse:parse_term(Tokens),
    io:format("~p~n", [call(Node, list_to_atom(M), list_to_atom(F), Args)]);
run("eval", Words, Node) ->
    Text = string:trim(lists:flatten(lists:join(" ", Words))),
    {ok, Tokens, _} = erl_scan:string(case lists:suffix(".", Text) of true -> Text; false -> Text ++ "." end),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = call(Node, erl_eval, exprs, [Expressions, []]),
    io:format("~p~n", [Value]).

%% Nothing is printed but by the function itself; success is that it returns ok.
command(M, F, Args, Node, Timeout) ->
    Argument = case {M, F} of {"emqx_ctl", "run_command"} -> [Args]; _ -> Args end,
    case rpc:call(Node, list_to_atom(M), list_to_atom(F), Argument, Timeout) of
        ok -> ok;
        {badrpc, Reason} ->
            io:format("RPC to ~s failed: ~p~n", [Node, Reason]),
            halt(1);
        {error, cmd_not_found} -> halt(1);
        {error, Reason} ->
            io:format("RPC to ~s error: ~p~n", [Node, Reason]),
            halt(1);
        _ -> halt(1)
    end.

call(Node, M, F, A) ->
    case rpc:call(Node, M, F, A, ?RPC_TIMEOUT_MSEC) of
        {badrpc, Reason} ->
            io:format("RPC to ~s failed: ~p~n", [Node, Reason]),
            halt(1);
        Value -> Value
    end.
