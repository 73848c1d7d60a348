%% SPDX-License-Identifier: Apache-2.0
%% The table of commands. What a command prints goes to the caller, whose group leader comes with the RPC. A function that
%% ran is success, whatever it printed; an unknown command is help and failure (facts 3.2).
-module(emqx_ctl).
-export([new/0, register_command/2, run_command/1]).

new() ->
    catch ets:new(emqx_command, [named_table, public, ordered_set]),
    ok.

register_command(Name, Fun) -> ets:insert(emqx_command, {Name, Fun}), ok.

run_command([]) -> help(), ok;
run_command(["help"]) -> help(), ok;
run_command([Name | Args]) ->
    case ets:match(emqx_command, {Name, '$1'}) of
        [[Fun]] ->
            try Fun(Args) of
                _ -> ok
            catch
                _:Reason:Stack ->
                    logger:error("CLI error: ~p ~p", [Reason, Stack]),
                    {error, Reason}
            end;
        [] -> help(), {error, cmd_not_found}
    end.

help() ->
    io:format("Usage: ~s~n", ["emqx_ctl"]),
    [io:format("    ~s~n", [Name]) || {Name, _} <- ets:tab2list(emqx_command)].
