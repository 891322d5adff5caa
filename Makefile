# zodan_bgw: builds with PGXS against the server that PG_CONFIG names
EXTENSION = zodan_bgw
MODULE_big = zodan_bgw
DATA = sql/zodan_bgw--1.0.sql

OBJS = $(addprefix worker/, \
	settings.o retry.o wait.o catalog.o remote.o pipe.o replication.o \
	engine.o engine_spock.o engine_pglogical.o cluster.o schema.o copy.o \
	phase_check.o phase_register.o phase_bookmark.o phase_copy.o \
	phase_subscribe.o phase_finish.o undo.o phases.o runner.o launcher.o \
	zodan_bgw.o)

PG_CONFIG ?= pg_config
PG_CPPFLAGS = -I$(shell $(PG_CONFIG) --includedir) -Iworker
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = -L$(shell $(PG_CONFIG) --libdir) -lpq

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS doesn't know which object needs which header
$(OBJS) $(OBJS:.o=.bc): $(wildcard worker/*.h)
