/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/apart.h"

#include "bus/transient.h"

#define SIGNALLED 128 /* no errno is above: ended by a signal, or never begun */

int run_apart(Context *c, const char *unit_name, const char *description, char *const *argv, const char *path,
                bool quick, usec_t timeout_usec, Error *reterr) {
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        int r, status;

        unit.name = unit_name;
        unit.description = description;
        unit.argv = argv;
        unit.slice = "emqx-upgrade.slice";
        unit.read_write_paths = STRV_MAKE(path);
        unit.sandboxed = !streq(path, "/"); /* which systemd does not except from being read-only */
        unit.quick = quick;
        unit.private_network = true;
        unit.capabilities = STRV_MAKE("CAP_DAC_OVERRIDE", "CAP_FOWNER");
        r = transient_capture(c->manager, &unit, timeout_usec, NULL, &status, reterr);
        if (r < 0)
                return r;
        if (status > SIGNALLED)
                return error_set(reterr, -EREMOTEIO, NULL, "%s exited with status %i", unit_name, status);
        return -status;
}
