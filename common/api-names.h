// Names of the API (xml-schemas/org.stele.Manager1.xml) that both of its ends use.
#pragma once

#define STELE_OBJECT_PATH "/org/stele/Manager1"
#define STELE_INTERFACE   "org.stele.Manager1"
