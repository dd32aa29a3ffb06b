/* SPDX-License-Identifier: GPL-3.0-or-later

   'udevd' as Guix's udev service expects eudev's to be, for systemd's udevd
   in PREFIX/libexec.  It differs in two respects:

   - The service waits until it can connect to the socket /run/udev/control,
     of type SOCK_SEQPACKET.  systemd's has another type, and is no evidence
     that anybody listens for the kernel's events.
   - Guix has libkmod look for modules where $LINUX_MODULE_DIRECTORY says;
     Debian's knows only /lib/modules.  */

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULES "/lib/modules"
#define CONTROL "/run/udev/control"
#define UDEVD PREFIX "/libexec/systemd-udevd"
#define UDEVADM PREFIX "/libexec/udevadm"

static void
link_modules (void)
{
  const char *directory = getenv ("LINUX_MODULE_DIRECTORY");

  if (!directory)
    return;
  mkdir ("/lib", 0755);
  unlink (MODULES);
  if (symlink (directory, MODULES) != 0)
    perror (MODULES);
}

/* Return true if udevd, which may not have started yet, answers.  */
static int
udevd_answers (void)
{
  int status = -1;
  pid_t pid = fork ();

  if (pid == 0)
    {
      execl (UDEVADM, UDEVADM, "control", "--ping", "--timeout=5", NULL);
      _exit (127);
    }
  return pid > 0 && waitpid (pid, &status, 0) == pid && status == 0;
}

/* Let somebody connect to CONTROL once udevd works.  */
static int
announce (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CONTROL };
  int fd = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

  while (!udevd_answers ())
    usleep (50 * 1000);
  unlink (CONTROL);
  if (bind (fd, (struct sockaddr *) &address, sizeof address) != 0
      || listen (fd, 1) != 0 || accept (fd, NULL, NULL) < 0)
    {
      perror (CONTROL);
      return EXIT_FAILURE;
    }
  return EXIT_SUCCESS;
}

int
main (int argc, char **argv)
{
  (void) argc;
  link_modules ();
  switch (fork ())
    {
    case -1:
      perror ("fork");
      return EXIT_FAILURE;
    case 0:
      /* Not udevd's child, which would wonder about it.  */
      if (fork () == 0)
        _exit (announce ());
      _exit (EXIT_SUCCESS);
    default:
      wait (NULL);
      argv[0] = UDEVD;
      execv (UDEVD, argv);
      perror (UDEVD);
      return EXIT_FAILURE;
    }
}
