# SPDX-License-Identifier: Apache-2.0
# Completion of emqx-upgrade(1) in fish. Versions are those in the names of the packages at hand.

function __emqx_upgrade_versions
    string match --regex --groups-only '(\d+\.\d+\.\d+)' (path basename /var/lib/emqx-upgrade/packages/*) | sort -u
end

function __emqx_upgrade_ids
    string replace .json '' (path basename /var/lib/emqx-upgrade/history/*.json)
end

complete -c emqx-upgrade -f
complete -c emqx-upgrade -n __fish_use_subcommand -a plan -d 'Make every check, show every step; change nothing'
complete -c emqx-upgrade -n __fish_use_subcommand -a status -d 'Show the upgrade that runs, or ran last'
complete -c emqx-upgrade -n __fish_use_subcommand -a watch -d 'Show an upgrade while it runs'
complete -c emqx-upgrade -n __fish_use_subcommand -a history -d 'List all upgrades'
complete -c emqx-upgrade -n __fish_use_subcommand -a diff -d 'Show how the configuration differs from the new defaults'
complete -c emqx-upgrade -n __fish_use_subcommand -a report -d 'Write an upgrade as a page of HTML'
complete -c emqx-upgrade -n __fish_use_subcommand -a rollback -d 'Go back to what was before an upgrade'
complete -c emqx-upgrade -n __fish_use_subcommand -a backups -d 'List, verify, extract and remove backups'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from plan' -a '(__emqx_upgrade_versions)'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from diff report rollback watch' -a '(__emqx_upgrade_ids)'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from report' -s o -l output -r -F -d 'Write the report there'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from backups; and not __fish_seen_subcommand_from list verify extract prune' -a 'list verify extract prune'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from verify extract prune' -a '(path basename /var/lib/emqx-upgrade/backups/*)'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from prune' -l dry-run -d 'Only say what would be removed'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from plan status history backups' -l json -d 'Print JSON'
complete -c emqx-upgrade -s h -l help -d 'Show a summary'
complete -c emqx-upgrade -l version -d 'Show the version'
