/* SPDX-License-Identifier: Apache-2.0 */

/* emqx-upgrade: the operator's command. It looks, and asks systemd; the units do the work. */

#include <fcntl.h>
#include <getopt.h>
#include <locale.h>

#include "base/process.h"
#include "base/version.h"
#include "cli/verbs.h"

bool arg_json = false;
const char *arg_output = NULL;
bool arg_dry_run = false;

static const struct {
        const char *name;
        unsigned min_args, max_args;
        ExitStatus (*run)(char **args);
} verbs[] = {
        { "plan", 1, 1, verb_plan },
        { "status", 0, 0, verb_status },
        { "history", 0, 0, verb_history },
        { "watch", 0, 1, verb_watch },
        { "diff", 0, 1, verb_diff },
        { "report", 0, 1, verb_report },
        { "rollback", 0, 1, verb_rollback },
        { "backups", 0, 3, verb_backups },
};

static void help(FILE *out) {
        (void) fprintf(out,
                        "emqx-upgrade [OPTIONS…] COMMAND\n"
                        "\n"
                        "Takes the EMQX node on this host from 4.3 to 4.4, in place. The upgrade itself\n"
                        "is a unit: systemctl start emqx-upgrade@4.4.0; journalctl -u emqx-upgrade@4.4.0\n"
                        "\n"
                        "Commands:\n"
                        "  plan VERSION      Make every check, show every step; change nothing\n"
                        "  status            Show the upgrade that runs, or ran last\n"
                        "  watch [ID]        Show an upgrade while it runs; exit as it does\n"
                        "  history           List all upgrades\n"
                        "  diff [ID]         Show how the configuration differs from the new defaults\n"
                        "  report [ID]       Write an upgrade as a page of HTML\n"
                        "  rollback [ID]     Go back to what was before upgrade ID (or the last one)\n"
                        "  backups [list]    List the backups that there are, and which may be removed\n"
                        "  backups verify ID       Read all of a backup and compare it with its manifests\n"
                        "  backups extract ID DIR  Extract a backup into a directory that is new or empty\n"
                        "  backups prune [ID]      Remove backup ID, or those that are not to be kept\n"
                        "\n"
                        "Options:\n"
                        "     --json         Print JSON (plan, status, history, backups)\n"
                        "  -o --output=FILE  Write there (report)\n"
                        "     --dry-run      Only say what would be removed (backups prune)\n"
                        "  -h --help         Show this\n"
                        "     --version      Show the version of this program\n"
                        "\n"
                        "Exit status: 0 done, 2 bad usage, 3 refused by a check, 4 failed and rolled\n"
                        "back, 5 failed and not rolled back. See emqx-upgrade(1).\n");
}

static ExitStatus bad_usage(const char *what, const char *why) {
        (void) fprintf(stderr, "emqx-upgrade: %s: %s. Try: emqx-upgrade --help\n", what, why);
        return EXIT_USAGE;
}

int main(int argc, char *argv[]) {
        enum { ARG_JSON = 0x100, ARG_DRY_RUN, ARG_VERSION };
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "output", required_argument, NULL, 'o' },
                { "json", no_argument, NULL, ARG_JSON },
                { "dry-run", no_argument, NULL, ARG_DRY_RUN },
                { "version", no_argument, NULL, ARG_VERSION },
                { NULL, 0, NULL, 0 },
        };
        int option;

        (void) setlocale(LC_CTYPE, "");
        while ((option = getopt_long(argc, argv, "ho:", options, NULL)) >= 0)
                switch (option) {
                case 'h': help(stdout); return EXIT_DONE;
                case ARG_VERSION: (void) printf("emqx-upgrade %s\n", PACKAGE_VERSION); return EXIT_DONE;
                case 'o': arg_output = optarg; break;
                case ARG_JSON: arg_json = true; break;
                case ARG_DRY_RUN: arg_dry_run = true; break;
                default: return EXIT_USAGE; /* getopt_long() has said what is wrong */
                }

        if (optind == argc)
                return bad_usage("command", "none was given");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                unsigned n = (unsigned) (argc - optind - 1);

                if (!streq(argv[optind], verbs[i].name))
                        continue;
                if (n < verbs[i].min_args)
                        return bad_usage(verbs[i].name, "an argument is missing");
                if (n > verbs[i].max_args)
                        return bad_usage(verbs[i].name, "too many arguments");
                return verbs[i].run(argv + optind + 1);
        }
        return bad_usage(argv[optind], "no such command");
}
