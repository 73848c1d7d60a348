%% SPDX-License-Identifier: Apache-2.0
%% Modules, by the file modules.loaded_file (facts 4.1).
-module(emqx_modules).
-export([load/0, list/0]).

-define(KNOWN, [{emqx_mod_acl_internal, "EMQ X Internal ACL Module"}, {emqx_mod_delayed, "EMQ X Delayed Publish Module"},
                {emqx_mod_presence, "EMQ X Presence Module"}, {emqx_mod_rewrite, "EMQ X Topic Rewrite Module"},
                {emqx_mod_subscription, "EMQ X Subscription Module"},
                {emqx_mod_topic_metrics, "EMQ X Topic Metrics Module"}]).

load() ->
    File = emqx_app:conf("modules.loaded_file", "/var/lib/emqx/loaded_modules"),
    case emqx_plugins:loaded(File) of
        {ok, Entries} ->
            persistent_term:put(?MODULE, [N || {N, true} <- Entries, lists:keymember(N, 1, ?KNOWN)]);
        {error, Reason} ->
            logger:alert("Failed to read: ~p, error: ~p", [File, Reason]),
            %% Later releases write the default instead (facts 4.1).
            Default = [{emqx_mod_acl_internal, true}, {emqx_mod_presence, true}],
            case emqx_app:at_least(14, 3) of
                true -> ok = emqx_plugins:write_loaded(File, Default), load();
                false -> persistent_term:put(?MODULE, [])
            end
    end,
    ok.

%% [{Name, Description, Active}]
list() ->
    Active = persistent_term:get(?MODULE, []) -- [emqx_app:knob(without_module, none)],
    [{N, D, lists:member(N, Active)} || {N, D} <- ?KNOWN].
