/* SPDX-License-Identifier: GPL-3.0-or-later

   The 'guile' program of the test bed's images: Debian's libguile, told where
   in the store (PREFIX) its files are, and perhaps outside of it where builders
   have a COMPILER, with what Guix's patches add to Guile:
   'load-linux-module/fd', of which the initial RAM disk makes use, and UTF-8
   as the default encoding.  */

#define _GNU_SOURCE
#include <locale.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libguile's header files are not needed for so little.  */
typedef void *SCM;
extern void scm_boot_guile (int, char **, void (*) (void *, int, char **),
                            void *);
extern void scm_shell (int, char **);
extern SCM scm_c_resolve_module (const char *);
extern SCM scm_c_make_gsubr (const char *, int, int, int, void *);
extern void scm_c_module_define (SCM, const char *, SCM);
extern int scm_to_int32 (SCM);
extern void scm_syserror (const char *);

static SCM
load_linux_module (SCM fd)
{
  if (syscall (SYS_finit_module, scm_to_int32 (fd), "", 0) != 0)
    scm_syserror ("load-linux-module/fd");
  return fd;
}

static void
inner_main (void *closure, int argc, char **argv)
{
  (void) closure;

  /* Another Guile started from here must not inherit our load path.  */
  unsetenv ("GUILE_SYSTEM_PATH");
  unsetenv ("GUILE_SYSTEM_COMPILED_PATH");
  unsetenv ("GUILE_SYSTEM_EXTENSIONS_PATH");
  scm_c_module_define (scm_c_resolve_module ("guile"), "load-linux-module/fd",
                       scm_c_make_gsubr ("load-linux-module/fd", 1, 0, 0,
                                         load_linux_module));
  scm_shell (argc, argv);
}

#ifdef COMPILER
#define BUILDERS ":" COMPILER
#else
#define BUILDERS
#endif

int
main (int argc, char **argv)
{
  setenv ("GUILE_SYSTEM_PATH",
          PREFIX "/share/guile/3.0:" PREFIX "/share/guile/site/3.0", 1);
  setenv ("GUILE_SYSTEM_COMPILED_PATH",
          PREFIX "/lib/guile/3.0/ccache:" PREFIX "/lib/guile/3.0/site-ccache"
          BUILDERS, 1);
  setenv ("GUILE_SYSTEM_EXTENSIONS_PATH",
          PREFIX "/lib/guile/3.0/extensions:" PREFIX "/lib", 1);
  setenv ("LOCPATH", PREFIX "/lib/locale", 0);
  setenv ("GCONV_PATH", PREFIX "/lib/gconv", 0);
  if (!getenv ("LC_ALL") && !getenv ("LC_CTYPE") && !getenv ("LANG"))
    setenv ("LC_CTYPE", "C.UTF-8", 1);
  setlocale (LC_ALL, "");
  scm_boot_guile (argc, argv, inner_main, NULL);
  return 0;
}
