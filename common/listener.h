// Whether anybody listens at a unix socket; for steled, which must not take another's place, and for vmctl, which says
// why it got no answer.
#pragma once

#include <stdbool.h>

bool listener_is_there(const char *path);
