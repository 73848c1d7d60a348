%% SPDX-License-Identifier: Apache-2.0
%% The part of bin/nodetool that runs in the node: what it prints goes to the caller, its value is the exit status (facts 3.2).
-module(emqx_nodetool).
-export([run/2]).

-define(RPC_TIMEOUT_MSEC, 60000).

%% erl_call knows an address; whether the node there is the one that was meant, is seen here.
run(Node, Command) when Node =:= node() -> run(Command).

run(["ping"]) -> io:format("pong~n"), 0;
run(["getpid"]) -> io:format("~s~n", [os:getpid()]), 0;
run(["pid_and_stop"]) -> io:format("~s~n~p~n", [os:getpid(), init:stop()]), 0;
run(["rpc", M, F | Args]) -> command(M, F, Args, ?RPC_TIMEOUT_MSEC);
run(["rpc_infinity", M, F | Args]) -> command(M, F, Args, infinity);
run(["rpcterms", M, F, Text]) ->
    {ok, Tokens, _} = erl_scan:string("[" ++ Text ++ "]."),
    {ok, Args} = erl_parse:parse_term(Tokens),
    value(list_to_atom(M), list_to_atom(F), Args);
run(["eval" | Words]) ->
    Text = string:trim(lists:flatten(lists:join(" ", Words))),
    {ok, Tokens, _} = erl_scan:string(case lists:suffix(".", Text) of true -> Text; false -> Text ++ "." end),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    case call(erl_eval, exprs, [Expressions, []], ?RPC_TIMEOUT_MSEC) of
        {value, Value, _} -> io:format("~p~n", [Value]), 0;
        {badrpc, Reason} -> failed(Reason)
    end.

%% Nothing is printed but by the function itself; success is that it returns ok.
command(M, F, Args, Timeout) ->
    Argument = case {M, F} of {"emqx_ctl", "run_command"} -> [Args]; _ -> Args end,
    case call(list_to_atom(M), list_to_atom(F), Argument, Timeout) of
        ok -> 0;
        {badrpc, Reason} -> failed(Reason);
        {error, cmd_not_found} -> 1;
        {error, Reason} -> io:format("RPC to ~s error: ~p~n", [node(), Reason]), 1;
        _ -> 1
    end.

value(M, F, Args) ->
    case call(M, F, Args, ?RPC_TIMEOUT_MSEC) of
        {badrpc, Reason} -> failed(Reason);
        Value -> io:format("~p~n", [Value]), 0
    end.

call(M, F, Args, Timeout) -> rpc:call(node(), M, F, Args, Timeout).

failed(Reason) -> io:format("RPC to ~s failed: ~p~n", [node(), Reason]), 1.
