// The API's methods about images and machines made of them, and what of them ends with the connection that asked: pulls
// under way, and machines that are to go with it.
#pragma once

#include <gio/gio.h>
#include "manager.h"
#include "stele-manager.h"

typedef struct ApiImages ApiImages;

ApiImages *api_images_new(SteleManager1 *skeleton);
void api_images_set_manager(ApiImages *images, Manager *manager);
void api_images_closed(ApiImages *images, GDBusConnection *connection);
void api_images_free(ApiImages *images);
