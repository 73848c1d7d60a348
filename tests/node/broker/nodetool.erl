%% SPDX-License-Identifier: Apache-2.0
%% nodetool: ping, getpid, rpc, eval, stop, ctl against the node whose name is in the first extra argument. Its outputs
%% and exit statuses are those of facts 3.2.
-module(nodetool).
-export([main/0]).

main() ->
    [Target, Verb | Args] = init:get_plain_arguments(),
    Node = list_to_atom(Target),
    case net_kernel:connect_node(Node) of
        true -> ok;
        _ ->
            io:format(standard_error, "Node ~p not responding to pings.~n", [Node]),
            halt(1)
    end,
    run(Verb, Args, Node),
    halt(0).

run("ping", [], _) -> io:format("pong~n");
run("getpid", [], Node) -> io:format("~s~n", [call(Node, os, getpid, [])]);
run("stop", [], Node) -> io:format("~p~n", [call(Node, init, stop, [])]);
run("rpc", [M, F | Args], Node) ->
    case call(Node, list_to_atom(M), list_to_atom(F), Args) of
        ok -> ok;
        _ -> halt(1)
    end;
run("ctl", Args, Node) ->
    case rpc:call(Node, emqx_ctl, run_command, [Args], 60000) of
        ok -> ok;
        {error, _} -> halt(1);
        {badrpc, {'EXIT', _} = Reason} -> io:format("RPC to ~s failed: ~0p~n", [Node, Reason]), halt(1);
        {badrpc, Reason} -> io:format("RPC to ~s error: ~0p~n", [Node, Reason]), halt(1);
        _ -> ok
    end;
run("eval", Words, Node) ->
    Text = string:trim(string:join(Words, " "), trailing, ". ") ++ ".",
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    case rpc:call(Node, erl_eval, exprs, [Expressions, []], 60000) of
        {value, Value, _} -> io:format("~p~n", [Value]);
        {badrpc, Reason} -> io:format("RPC to ~s failed: ~0p~n", [Node, Reason]), halt(1)
    end.

call(Node, M, F, A) ->
    case rpc:call(Node, M, F, A, 60000) of
        {badrpc, Reason} -> io:format("RPC to ~s failed: ~0p~n", [Node, Reason]), halt(1);
        Value -> Value
    end.
