%% SPDX-License-Identifier: Apache-2.0
%% Drops members that have been down for longer than cluster.autoclean, looked at each quarter of it (facts 5.2).
-module(ekka_autoclean).
-export([start_link/0, init/1]).

start_link() ->
    case application:get_env(ekka, cluster_autoclean) of
        {ok, Expiry} when Expiry > 0 -> proc_lib:start_link(?MODULE, init, [Expiry]);
        _ -> ok
    end.

init(Expiry) ->
    proc_lib:init_ack({ok, self()}),
    loop(Expiry, #{}).

loop(Expiry, Seen) ->
    timer:sleep(Expiry div 4),
    Now = erlang:monotonic_time(millisecond),
    #{stopped_nodes := Down} = ekka_mnesia:status(),
    Since = maps:from_list([{N, maps:get(N, Seen, Now)} || N <- Down]),
    [catch ekka_mnesia:force_leave(N) || {N, T} <- maps:to_list(Since), Now - T >= Expiry],
    loop(Expiry, Since).
