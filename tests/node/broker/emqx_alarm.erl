%% SPDX-License-Identifier: Apache-2.0
%% Alarms: kept on disc for this node alone.
-module(emqx_alarm).
-export([new/0, activate/2, deactivate/1, get_alarms/1]).

-record(emqx_activated_alarm, {name, message, activate_at}).

new() ->
    ekka_mnesia:create_table(emqx_activated_alarm, {disc_copies, [{local_content, true},
                                                                  {attributes, record_info(fields, emqx_activated_alarm)}]}).

activate(Name, Message) ->
    Alarm = #emqx_activated_alarm{name = Name, message = Message, activate_at = erlang:system_time(microsecond)},
    ok = mnesia:dirty_write(Alarm),
    logger:warning("Alarm ~s is activated, ~p", [Name, Message]).

deactivate(Name) -> mnesia:dirty_delete(emqx_activated_alarm, Name).

get_alarms(_) ->
    [#{name => N, message => M, activate_at => A, activated => true}
     || #emqx_activated_alarm{name = N, message = M, activate_at = A} <- ets:tab2list(emqx_activated_alarm)].
