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
complete -c emqx-upgrade -n __fish_use_subcommand -a history -d 'List all upgrades'
complete -c emqx-upgrade -n __fish_use_subcommand -a rollback -d 'Go back to what was before an upgrade'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from plan' -a '(__emqx_upgrade_versions)'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from rollback' -a '(__emqx_upgrade_ids)'
complete -c emqx-upgrade -n '__fish_seen_subcommand_from status history' -l json -d 'Print JSON'
complete -c emqx-upgrade -s h -l help -d 'Show a summary'
complete -c emqx-upgrade -l version -d 'Show the version'
