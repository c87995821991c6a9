// org.stele.Manager1 on D-Bus connections: arguments in, manager_…() calls, replies and signals
// out, and the programs each connection has started. Nothing more.
#pragma once

#include "manager.h"

typedef struct Api Api;

Api *api_new(void);
// Requests are answered once a manager is set.
void api_set_manager(Api *api, Manager *manager);
// Ends the programs of all connections.
void api_free(Api *api);
// Offers the interface on a connection that was authorised.
void api_add_peer(GDBusConnection *connection, gpointer api);
// user_data of these is the Api.
extern const ManagerObserver api_observer;
