/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Events: everything the journal can hold from us: one random MESSAGE_ID each (systemd-id128 new), never changed and
 * never used again once released; text in catalog/emqx-upgrade.catalog; emqx-upgrade.journal-fields(7) lists them.
 *
 * The catalog's texts show fields of the entry, so the sender sets them: the context (id, from, to) always; step with
 * STEP_…; check with CHECK_…; error with CHECK_FAILED, WATCH_FAILED, UPGRADE_REFUSED, UPGRADE_FAILED, ROLLBACK_FAILED,
 * STEP_FAILED, STEP_GIVEN_UP, STEP_UNDO_FAILED and METRICS_FAILED; usec with WAIT_OVER and STEP_DONE; downtime_usec with
 * NODE_READY. */

#include <syslog.h>

/* X(name, MESSAGE_ID, PRIORITY unless the sender says otherwise) */
/* clang-format off */
#define EVENTS(X)                                                                  \
        X(UPGRADE_STARTED,        "9a327dd35ed54cd8b3b71a5763963f80", LOG_INFO)    \
        X(UPGRADE_RESUMED,        "754941e0fabd4d829ae9e9b8af11136b", LOG_NOTICE)  \
        X(UPGRADE_DONE,           "4d8d5f74fa59472da35ef562a73188eb", LOG_NOTICE)  \
        X(UPGRADE_STAGED,         "22ad2094267845c1a546d3839ca95d23", LOG_NOTICE)  \
        X(NOTHING_TO_DO,          "62c131fa24c3493c9426420273231c66", LOG_INFO)    \
        X(UPGRADE_REFUSED,        "9b0c6a57aaee4f0791331b106150e322", LOG_ERR)     \
        X(UPGRADE_FAILED,         "528da9830d4b4313b814b55ce09d2b63", LOG_ERR)     \
        X(ROLLBACK_STARTED,       "7f95383ae0004d40a48c94787af15954", LOG_WARNING) \
        X(ROLLBACK_DONE,          "017c3a527bf0492994237dd944e25851", LOG_WARNING) \
        X(ROLLBACK_FAILED,        "30707b5de9c5456ebea66deb7523f8e0", LOG_CRIT)    \
        X(STEP_BEGUN,             "91e8a86a8cff4a9e9992dbdce0c05c84", LOG_INFO)    \
        X(STEP_DONE,              "94039411413943dcb818b8117223eb14", LOG_INFO)    \
        X(STEP_FAILED,            "6241ea03dd724e8597a7d3d792b2ad66", LOG_ERR)     \
        X(STEP_GIVEN_UP,          "3aa08cc494f1499994d47e5496d31eec", LOG_WARNING) \
        X(STEP_UNDO_BEGUN,        "04ec93eed16c485fb3ab19fb7eab4b33", LOG_INFO)    \
        X(STEP_UNDONE,            "7350b7307aa549739eaf764b67205a45", LOG_INFO)    \
        X(STEP_UNDO_FAILED,       "be80b68a785041dc8893dfec30684516", LOG_ERR)     \
        X(STEP_PROGRESS,          "b129dd1a61e54649b3bd7a49c1e34d8d", LOG_DEBUG)   \
        X(TREE_COPIED,            "2300a2dfc4a64e6d966b8c0340a818a4", LOG_INFO)    \
        X(STEP_OUTPUT,            "ad613ffb7fea416eaa304a6a52a8e37a", LOG_INFO)    \
        X(CHECK_PASSED,           "81ee5a8147d64ba9a2bb9bcac6aba2ef", LOG_INFO)    \
        X(CHECK_WARNED,           "47e02d32de7547298a06e21fa18e076c", LOG_WARNING) \
        X(CHECK_REFUSED,          "6b70a89c790542b99ad5a8eba2192b02", LOG_ERR)     \
        X(CHECK_FAILED,           "971628bd033e4e2cbee74c38bfda724c", LOG_ERR)     \
        X(WATCH_FAILED,           "3fa5d8fa1e604eacbfd7021bc956dd77", LOG_ERR)     \
        X(WAITING,                "a655b923ec3949a1af9338327d256dc3", LOG_NOTICE)  \
        X(WAIT_OVER,              "3bdf990cfc294dd7809f903edcf0c8df", LOG_INFO)    \
        X(NODE_STOPPED,           "212a8d3b754d44eea89ed9273771f106", LOG_INFO)    \
        X(NODE_READY,             "7cf9af867e71433d853749112436d69b", LOG_INFO)    \
        X(NODE_FAILING,           "7847ae4efff24640b9dd147c6fcdcc01", LOG_ERR)     \
        X(HOLD_SET,               "068c00a93b5a4947ab55b4a5a08abbfe", LOG_INFO)    \
        X(HOLD_LIFTED,            "a308a26065674532bfd995f209b5127d", LOG_INFO)    \
        X(INTERRUPTED,            "50df7ad061044dec9ee678317fa12cd1", LOG_NOTICE)  \
        X(STOP_REQUESTED,         "b69528680e4d4c0ea5b9dae832613947", LOG_NOTICE)  \
        X(CONFIGURATION_ERROR,    "fb712a1ae1324076b810459c7add0c84", LOG_ERR)     \
        X(HOOK_FAILED,            "443ca353ee734d229a6fc64bb308ce55", LOG_ERR)     \
        X(METRICS_FAILED,         "9f3f93a183b34f3f87b7dc4dd1cd6523", LOG_WARNING) \
        X(NEW_DEFAULT_KEPT_ASIDE, "2f35407c98824dbbae91d02920ada681", LOG_NOTICE)  \
        X(SETTING_DROPPED,        "1e172b3e1db5417db95a2eb610e5853b", LOG_NOTICE)  \
        X(NOT_CARRIED,            "1aa7b873b2d54b2aad6d42219854a16e", LOG_INFO)    \
        X(BACKUP_ARCHIVED,        "fc42b91b7d9949058d23db3a81e1af7a", LOG_INFO)    \
        X(BACKUP_REMOVED,         "b5c511beceff4fd1aadfecfdac64ccca", LOG_NOTICE)  \
        X(UPGRADE_QUEUED,         "1cbd27d8cab64abd80a082fcdf57f6f4", LOG_NOTICE)  \
        X(UPGRADE_NOT_QUEUED,     "fc24580288f1472e8d2bd8705d9f6c9a", LOG_NOTICE)  \
        X(PACKAGE_HELD,           "2c96b1ce593544a1adf38320e1dc4457", LOG_NOTICE)  \
        X(PACKAGE_RELEASED,       "f454bc7ea37a446a9ad3077fdf91d138", LOG_NOTICE)  \
        X(PACKAGE_NOT_HELD,       "9685126833214bf796ea7bbf1fef0608", LOG_WARNING) \
        X(HISTORY_WRITTEN,        "98721619055f4930a6a7e3d2f851aed6", LOG_DEBUG)

typedef enum Event {
#define X(name, id, priority) EVENT_##name,
        EVENTS(X)
#undef X
        _EVENT_MAX,
} Event;
/* clang-format on */

/* EMQX_UPGRADE_EVENT=: "upgrade-started" for EVENT_UPGRADE_STARTED. */
const char *event_name(Event event);

/* MESSAGE_ID=: 32 lower-case hex digits. */
const char *event_id(Event event);

/* PRIORITY=: LOG_CRIT … LOG_DEBUG. */
int event_priority(Event event);
