%% SPDX-License-Identifier: Apache-2.0
%% bin/nodetool.vm, as the real nodetool: a VM for each command, which connects to the node.
-module(nodetool).
-export([main/1]).

main([Target, Cookie | Command]) ->
    Node = list_to_atom(Target),
    [_, Host] = string:split(Target, "@"),
    Self = list_to_atom("maint" ++ os:getpid() ++ "@" ++ Host),
    {ok, _} = net_kernel:start(Self, #{name_domain => longnames, hidden => true, dist_listen => false}),
    erlang:set_cookie(node(), list_to_atom(Cookie)),
    case net_adm:ping(Node) of
        pong -> ok;
        pang ->
            io:format(standard_error, "Node ~p not responding to pings.~n", [Node]),
            halt(1)
    end,
    case rpc:call(Node, emqx_nodetool, run, [Node, Command]) of
        Status when is_integer(Status) -> halt(Status);
        {badrpc, {'EXIT', Reason}} -> error(Reason);
        {badrpc, Reason} ->
            io:format("RPC to ~s failed: ~p~n", [Node, Reason]),
            halt(1)
    end.
