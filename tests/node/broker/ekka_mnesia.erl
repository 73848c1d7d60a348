%% SPDX-License-Identifier: Apache-2.0
%% Mnesia as the real node uses it: a directory per node name, a schema on disc that holds the membership, tables that are
%% waited for without limit, in rounds of 30 s (facts 3.4, 5.2).
-module(ekka_mnesia).
-export([start/0, stop/0, create_table/2, status/0, join/1, leave/0, force_leave/1]).

-define(ROUND_MSEC, 30000).

start() ->
    emqx_app:knob(no_join, false) andalso mnesia:delete_schema([node()]),
    case mnesia:system_info(use_dir) of
        true -> ok;
        false -> ok = mnesia:create_schema([node()])
    end,
    ok = mnesia:start(),
    wait(mnesia:system_info(local_tables)).

stop() ->
    stopped = mnesia:stop(),
    ok.

wait(Tables) ->
    case mnesia:wait_for_tables(Tables, ?ROUND_MSEC) of
        ok -> ok;
        {timeout, Rest} ->
            logger:warning("ekka_mnesia: still waiting for table(s): ~p", [Rest]),
            wait(Rest)
    end.

%% Made here, or copied from the cluster; its storage type is the one that is asked for.
create_table(Name, {Storage, Options}) ->
    case mnesia:create_table(Name, [{Storage, [node()]} | Options]) of
        {atomic, ok} -> ok;
        {aborted, {already_exists, Name}} ->
            case mnesia:table_info(Name, storage_type) of
                Storage -> ok;
                unknown -> {atomic, ok} = mnesia:add_table_copy(Name, node(), Storage);
                _ -> {atomic, ok} = mnesia:change_table_copy_type(Name, node(), Storage)
            end
    end,
    wait([Name]).

status() ->
    Running = lists:sort(mnesia:system_info(running_db_nodes)),
    #{running_nodes => Running, stopped_nodes => lists:sort(mnesia:system_info(db_nodes) -- Running)}.

%% Deletes the local schema and takes the peer's; the caller has stopped what uses the tables.
join(Peer) ->
    ok = stop(),
    ok = mnesia:delete_schema([node()]),
    ok = mnesia:start(),
    {ok, [_ | _]} = mnesia:change_config(extra_db_nodes, [Peer]),
    {atomic, ok} = mnesia:change_table_copy_type(schema, node(), disc_copies),
    ok.

%% A peer drops this node from its schema; all local data goes.
leave() ->
    [Peer | _] = lists:delete(node(), mnesia:system_info(running_db_nodes)),
    ok = stop(),
    {atomic, ok} = rpc:call(Peer, mnesia, del_table_copy, [schema, node()]),
    ok = mnesia:delete_schema([node()]),
    start().

force_leave(Node) ->
    {atomic, ok} = mnesia:del_table_copy(schema, Node),
    ok.
