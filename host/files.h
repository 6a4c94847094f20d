/* Files and folders by name: reading whole texts, writing that leaves no half file, copies. */
#ifndef XFT_HOST_FILES_H
#define XFT_HOST_FILES_H

#include "xft/base.h"

/* "folder/name", to be freed with free(). */
xft_status xft_path_join(const char *folder, const char *name, char **path);

/* A whole file with a zero behind it, to be freed with free(); bytes (NULL: a file that holds a zero byte is refused)
 * gets its size. */
xft_status xft_read_file(const char *path, char **text, size_t *bytes);

/* All bytes to an open file, through interrupts and partial writes; path is for messages. */
xft_status xft_write_all(int fd, const char *path, const void *data, uint64_t bytes);

/* Begins and ends a file that appears whole or not at all. begin: opens PATH.tmp-PID, whose name is to be freed with
 * free(). finish: `status` is how the writing went: XFT_OK: fsync, rename to path, fsync of the folder; else, or when
 * one of these fails, the temporary file is gone and path is as it was. Frees `temporary`, closes fd. */
xft_status xft_write_begin(const char *path, char **temporary, int *fd);
xft_status xft_write_finish(const char *path, char *temporary, int fd, xft_status status);

/* A whole file by these. */
xft_status xft_write_file(const char *path, const void *data, size_t bytes);
xft_status xft_copy_file(const char *from, const char *to);

/* fsync of the folder that holds `path`: a rename in it reaches the disk. */
xft_status xft_sync_folder(const char *path);

/* A folder and those above it, where they are missing. */
xft_status xft_make_folder(const char *path);

/* Names of the entries of a folder, sorted, without "." and ".."; to be given to xft_free_list. */
xft_status xft_list_folder(const char *path, char ***names, size_t *count);
void xft_free_list(char **names, size_t count);

/* A new folder "NAME-XXXXXX" in TMPDIR, or /tmp where that is not set; to be freed with free(). */
xft_status xft_temporary_folder(const char *name, char **path);

/* A file, or a folder with everything in it; XFT_OK when there is none. Links are removed, not followed. */
xft_status xft_remove_all(const char *path);

/* Removes the entries NAME.tmp-PID and NAME.old-PID of a folder whose NAME begins with `begin` ("": all): what
 * processes have left that were killed. XFT_OK when there is no folder. */
xft_status xft_remove_left_overs(const char *folder, const char *begin);

/* Moves the finished file or folder `from` to `to`, in place of what is there (which is gone only then). */
xft_status xft_replace(const char *from, const char *to);

/* Sum of the sizes of a file, or of the files below a folder; 0 when there is none. */
uint64_t xft_size_on_disk(const char *path);

/* Refuses with numbers when the file system of `path` (it, or the nearest folder above that exists) has not `bytes`
 * free; what: for the message. */
xft_status xft_check_space(const char *path, uint64_t bytes, const char *what);

#endif
