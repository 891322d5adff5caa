/*
 * session.h
 *		What the sessions of this process have in common.
 */
#ifndef ZODAN_SESSION_H
#define ZODAN_SESSION_H

#include "compat.h"

/*
 * By these the sessions of a request can be found on a node: those of the
 * worker itself hold two advisory locks, whose second keys are the request's
 * token and a number of the process's own; those of its child processes have
 * the token in their name.
 */
#define ZODAN_LOCK_SESSION	2053071973
#define ZODAN_LOCK_PROCESS	2053071975

extern void zodan_session_init(const char *name, uint32 token, int64 timeout_ms);
extern const char *zodan_session_name(void);
extern const char *zodan_session_pins(void);
extern const char *zodan_session_change_pins(void);
extern char *zodan_session_change_options(int version, bool superuser, const char *own);
extern const char *zodan_session_child(void);
extern const char *zodan_session_token(void);
extern const char *zodan_session_process(void);
extern int64 zodan_statement_timeout(void);
extern int	zodan_server_timeout(void);

#endif							/* ZODAN_SESSION_H */
