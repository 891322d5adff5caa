/*
 * session.h
 *		What the sessions of this process have in common.
 */
#ifndef ZODAN_SESSION_H
#define ZODAN_SESSION_H

#include "base/compat.h"

extern void zodan_session_init(const char *name, uint32 token, int64 timeout_ms);
extern const char *zodan_session_name(void);
extern const char *zodan_session_pins(void);
extern const char *zodan_session_change_pins(void);
extern char *zodan_session_change_options(int version, bool superuser, const char *own);
extern const char *zodan_session_child(void);
extern const char *zodan_session_token(void);
extern const char *zodan_session_process(void);
extern int64 zodan_session_timeout(void);
extern int	zodan_session_server_timeout(void);

#endif							/* ZODAN_SESSION_H */
