/* SPDX-License-Identifier: Apache-2.0 */

#include "journal/events.h"

#include <ctype.h>

#include "base/macro.h"

typedef struct EventRow {
        const char *enumerator, *id;
        int priority;
} EventRow;

static const EventRow events[] = {
#define X(name, id, priority) [EVENT_##name] = { #name, id, priority },
        EVENTS(X)
#undef X
};

static const EventRow *row(Event event) {
        assert((size_t) event < ELEMENTSOF(events));
        return &events[event];
}

const char *event_name(Event event) {
        static char names[_EVENT_MAX][32]; /* filled at first use, always with the same */
        char *name = names[event];

        if (name[0] == '\0')
                for (const char *s = row(event)->enumerator; *s; s++)
                        *name++ = *s == '_' ? '-' : (char) tolower(*s);
        return names[event];
}

const char *event_id(Event event) {
        return row(event)->id;
}

int event_priority(Event event) {
        return row(event)->priority;
}
