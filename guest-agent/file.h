// Small files of the userspace, written by those who prepare it.
#pragma once

// Gives a file this content, 0644; a symbolic link is left alone. What fails, a full or read-only root, is passed over:
// those who would read the file say more about it.
void file_write(const char *path, const char *text);
