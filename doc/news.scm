;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; What 'guix pull --news' says of this channel.

(channel-news
 (version 0)
 (entry (commit "f1b6190bb3a8679ce036b892b6a5ed09e2cd9480")
        (title (en "Older commits do not take the place of newer ones"))
        (body (en "@command{pyguixvm deploy} refuses to change a machine by channels, or
by a configuration, that are older than those that it was deployed with, unless
@option{--allow-downgrades} is given."))))
