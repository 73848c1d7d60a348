%% SPDX-License-Identifier: Apache-2.0
%% No epmd: the distribution port is 4370 plus the digits at the end of the short name (facts 3.4).
-module(ekka_epmd).
-export([start_link/0, register_node/2, register_node/3, port_please/2, port_please/3, listen_port_please/2, names/1,
         address_please/3]).

start_link() -> ignore.
register_node(_, _) -> {ok, 1}.
register_node(_, _, _) -> {ok, 1}.
port_please(Name, _) -> {port, port(Name), 5}.
port_please(Name, _, _) -> {port, port(Name), 5}.
listen_port_please(Name, _) -> {ok, port(Name)}.
names(_) -> {error, address}.

address_please(Name, Host, Family) ->
    {ok, Ip} = inet:getaddr(Host, Family),
    {ok, Ip, port(Name), 5}.

port(Name) when is_atom(Name) -> port(atom_to_list(Name));
port(Name) ->
    case re:run(hd(string:split(Name, "@")), "[0-9]+$", [{capture, first, list}]) of
        {match, [Digits]} -> 4370 + list_to_integer(Digits) rem 1000;
        nomatch -> 4370
    end.
