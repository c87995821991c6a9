/* A translated process as its files in /proc show it: what procfs.c finds by name and procfs-maps.c writes. */
#ifndef STELE_LINUX_PROCFS_H
#define STELE_LINUX_PROCFS_H

#include <stdbool.h>
#include <stdint.h>

#include "linux/linux.h"

typedef struct ProcfsProcess {
  int directory;                   /* /proc/PID or /proc/PID/task/TID, open */
  bool own;                        /* this process */
  char translator[LINUX_PATH_MAX]; /* its translator's file, as the kernel names it */
} ProcfsProcess;

/* Writes all of `from`; a negative errno when it can't. */
int procfs_write(int fd, const void *from, uint64_t length);

/* The content of maps, smaps, smaps_rollup and numa_maps, as it is of the program alone. */
int procfs_write_maps(int to, const ProcfsProcess *process);
int procfs_write_smaps(int to, const ProcfsProcess *process);
int procfs_write_rollup(int to, const ProcfsProcess *process);
int procfs_write_numa(int to, const ProcfsProcess *process);

/* The entries of map_files without those of the translator; the new length. */
uint64_t procfs_filter_files(const ProcfsProcess *process, void *entries, uint64_t length);

/* Where the translator's image is in the memory of another translated process, whose directory is open; 0 where that can't be
 * told, and for this process itself. */
uint64_t procfs_translator_base(int directory);

/* The same of `process`, which is a translated one. */
uint64_t procfs_find_image(const ProcfsProcess *process);

/* The path of the program that another process runs, with " (deleted)" where it is; its length, -ENOENT if it cannot be
 * told. What is read is what the process has mapped: it can lie about itself alone. */
int procfs_program(const ProcfsProcess *process, char target[LINUX_PATH_MAX]);

#endif
