%% SPDX-License-Identifier: Apache-2.0
%% Retained messages, in memory or on disc as retainer.storage_type says (facts 5.2), while the plugin is loaded.
-module(emqx_retainer).
-export([load/1, store/3, all/0]).

-record(emqx_retained, {topic, payload, qos}).

load(Conf) ->
    Storage = case proplists:get_value("retainer.storage_type", Conf) of "ram" -> ram_copies; _ -> disc_copies end,
    ekka_mnesia:create_table(emqx_retained, {Storage, [{attributes, record_info(fields, emqx_retained)}]}),
    case emqx_app:knob(lose_retained, false) of
        true -> {atomic, ok} = mnesia:clear_table(emqx_retained), ok;
        false -> ok
    end.

%% An empty payload takes the message away. The write is logged on all nodes that have the table before it is acknowledged.
store(Topic, Payload, Qos) ->
    case emqx_plugins:is_active(emqx_retainer) of
        true when Payload =:= <<>> -> mnesia:sync_dirty(fun() -> mnesia:delete({emqx_retained, Topic}) end);
        true -> mnesia:sync_dirty(fun() -> mnesia:write(#emqx_retained{topic = Topic, payload = Payload, qos = Qos}) end);
        false -> ok
    end.

%% [{Topic, Payload, Qos}]
all() ->
    case emqx_plugins:is_active(emqx_retainer) of
        true -> lists:sort([{T, P, Q} || #emqx_retained{topic = T, payload = P, qos = Q} <- ets:tab2list(emqx_retained)]);
        false -> []
    end.
