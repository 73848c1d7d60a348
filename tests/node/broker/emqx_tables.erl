%% SPDX-License-Identifier: Apache-2.0
%% Mnesia, as the real node uses it: a directory per node name, a schema on disc, tables that are waited for without
%% limit (facts 5.2). Retained messages are in memory unless retainer.storage_type = disc (facts 5.2).
-module(emqx_tables).
-export([open/0, retain/2, retained/0, storage/0, cluster_status/0, join/1]).

-record(emqx_retained, {topic, payload}).

storage() ->
    case emqx_app:conf("retainer.storage_type", "ram") of
        "disc" -> disc_copies;
        "disc_only" -> disc_copies;
        _ -> ram_copies
    end.

open() ->
    case mnesia:system_info(use_dir) of
        true -> ok;
        false -> ok = mnesia:create_schema([node()])
    end,
    ok = mnesia:start(),
    create(),
    wait([schema, emqx_retained]).

create() ->
    case lists:member(emqx_retained, mnesia:system_info(tables)) of
        false ->
            {atomic, ok} = mnesia:create_table(emqx_retained, [{storage(), [node()]},
                                                               {attributes, record_info(fields, emqx_retained)}]);
        true ->
            ok
    end,
    case mnesia:table_info(emqx_retained, storage_type) of
        unknown -> {atomic, ok} = mnesia:add_table_copy(emqx_retained, node(), storage());
        Type -> Type =:= storage() orelse mnesia:change_table_copy_type(emqx_retained, node(), storage())
    end.

wait(Tables) ->
    case mnesia:wait_for_tables(Tables, 30000) of
        ok -> ok;
        {timeout, Rest} ->
            emqx_log:write(warning, "ekka_mnesia: still waiting for table(s): ~p", [Rest]),
            wait(Rest)
    end.

retain(Topic, <<>>) -> mnesia:sync_dirty(fun() -> mnesia:delete({emqx_retained, Topic}) end), mnesia:dump_log(), ok;
retain(Topic, Payload) ->
    mnesia:sync_dirty(fun() -> mnesia:write(#emqx_retained{topic = Topic, payload = Payload}) end),
    ok.

retained() -> [{T, P} || #emqx_retained{topic = T, payload = P} <- ets:tab2list(emqx_retained)].

cluster_status() ->
    Running = lists:sort(mnesia:system_info(running_db_nodes)),
    #{running_nodes => Running, stopped_nodes => lists:sort(mnesia:system_info(db_nodes) -- Running)}.

%% Deletes the local schema and takes the peer's (facts 5.2).
join(Peer) ->
    case net_adm:ping(Peer) of
        pang -> {error, {node_down, Peer}};
        pong ->
            stopped = mnesia:stop(),
            ok = mnesia:delete_schema([node()]),
            ok = mnesia:start(),
            {ok, [_ | _]} = mnesia:change_config(extra_db_nodes, [Peer]),
            {atomic, ok} = mnesia:change_table_copy_type(schema, node(), disc_copies),
            create(),
            wait([emqx_retained])
    end.
