// The errors of the API: one row each, for steled (code -> D-Bus name) and vmctl (D-Bus name -> exit
// code). What they mean is told in xml-schemas/org.stele.Manager1.xml; names and exit codes are stable.
#pragma once

#define STELE_ERROR_PREFIX "org.stele.Error."

// ROW(enumerator, D-Bus name without the prefix, vmctl's exit code)
#define STELE_API_ERRORS(ROW)                                                                                          \
  ROW(INVALID_XML, "InvalidXml", 5)                                                                                    \
  ROW(INVALID_MACHINE, "InvalidMachine", 5)                                                                            \
  ROW(INVALID_ARGUMENT, "InvalidArgument", 5)                                                                          \
  ROW(NAME_TAKEN, "NameTaken", 4)                                                                                      \
  ROW(NO_SUCH_MACHINE, "NoSuchMachine", 3)                                                                             \
  ROW(WRONG_STATE, "WrongState", 4)                                                                                    \
  ROW(MISSING_FILE, "MissingFile", 6)                                                                                  \
  ROW(UNUSABLE_ROOT, "UnusableRoot", 6)                                                                                \
  ROW(STORAGE_FULL, "StorageFull", 12)                                                                                 \
  ROW(STORAGE, "Storage", 12)                                                                                          \
  ROW(HYPERVISOR, "Hypervisor", 11)                                                                                    \
  ROW(BOOT_FAILED, "BootFailed", 9)                                                                                    \
  ROW(TIMEOUT, "Timeout", 8)                                                                                           \
  ROW(AGENT_UNAVAILABLE, "AgentUnavailable", 10)                                                                       \
  ROW(PROGRAM_NOT_FOUND, "ProgramNotFound", 10)                                                                        \
  ROW(PROGRAM_NOT_EXECUTABLE, "ProgramNotExecutable", 10)                                                              \
  ROW(GUEST_ERROR, "GuestError", 10)                                                                                   \
  ROW(NO_SUCH_STREAM, "NoSuchStream", 3)                                                                               \
  ROW(UNSUPPORTED, "Unsupported", 13)                                                                                  \
  ROW(NO_SUCH_IMAGE, "NoSuchImage", 3)                                                                                 \
  ROW(INVALID_IMAGE, "InvalidImage", 6)                                                                                \
  ROW(FETCH_FAILED, "FetchFailed", 14)                                                                                 \
  ROW(CANCELLED, "Cancelled", 15)
