{application, emqx,
 [{description, "EMQX test node"}, {vsn, "1"}, {modules, []}, {registered, [emqx]}, {applications, [kernel, stdlib]},
  {mod, {emqx_app, []}}, {env, []}]}.
