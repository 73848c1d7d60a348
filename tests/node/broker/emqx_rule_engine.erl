%% SPDX-License-Identifier: Apache-2.0
%% Rules and resources, on disc: kept, listed as facts 5.3 have it, and never run.
-module(emqx_rule_engine).
-export([load/0]).

-record(emqx_rule, {id, sql}).
-record(emqx_resource, {id, type, config}).

load() ->
    ekka_mnesia:create_table(emqx_rule, {disc_copies, [{attributes, record_info(fields, emqx_rule)}]}),
    emqx_app:knob(lose_rules, false) andalso mnesia:clear_table(emqx_rule),
    ekka_mnesia:create_table(emqx_resource, {disc_copies, [{attributes, record_info(fields, emqx_resource)}]}),
    emqx_ctl:register_command("rules", fun rules/1),
    emqx_ctl:register_command("resources", fun resources/1),
    ok.

all(Table) -> lists:sort(ets:tab2list(Table)).

id(Kind) -> Kind ++ ":" ++ integer_to_list(erlang:unique_integer([positive]) + 100000).

rules(["list"]) ->
    [io:format("rule(id='~s', for='~s', rawsql='~s', actions=~0p, on_action_failed='continue', metrics=~0p, "
               "enabled='true', description='')~n", [Id, "t/#", Sql, [], []]) || #emqx_rule{id = Id, sql = Sql} <- all(emqx_rule)];
rules(["create", Sql | _]) ->
    Id = id("rule"),
    ok = mnesia:sync_dirty(fun() -> mnesia:write(#emqx_rule{id = Id, sql = Sql}) end),
    io:format("Rule ~s created~n", [Id]).

resources(["list"]) ->
    Alive = not emqx_app:knob(dead_resources, false),
    [io:format("resource(id='~s', type='~s', config=~0p, status=~0p, description='')~n",
               [Id, Type, #{<<"password">> => list_to_binary(Config)}, [#{is_alive => Alive, node => node()}]])
     || #emqx_resource{id = Id, type = Type, config = Config} <- all(emqx_resource)];
resources(["create", Type, "-c", Config | _]) ->
    Id = id("resource"),
    ok = mnesia:sync_dirty(fun() -> mnesia:write(#emqx_resource{id = Id, type = Type, config = Config}) end),
    io:format("Resource ~s created~n", [Id]).
