# zodan_bgw: builds with PGXS against the server that PG_CONFIG names
#
#   make, make install, make installcheck   as with any extension
#   make demo            a fourth node joins three that keep writing
#   make check           all tests but the nightly ones; make check-WORD: those with WORD in their name
#   make check-all       these and the nightly ones, with every fault at every point of a join: takes hours
#   make soak            nodes come and go while servers die, for MINUTES=30
#   make bench           how long a join takes, and what it costs
#   make bench-copy      the copy against doing it by hand and other tools
#   make bench-verify    a comparison of all nodes' rows against an aggregate by hand
#   make bench-pipe      how fast rows go through the copy's event loop
#   make indent          formats the C code; see docs/CONTRIBUTING.md
#   FAILPOINTS=1         builds with points where tests can make a request fail
#
# Those from demo to bench-pipe install what is missing (Debian packages, as root), build for
# a private copy of the server in a scratch folder, and leave nothing behind.
#
# Copyright (c) 2026, the zodan_bgw authors
EXTENSION = zodan_bgw
MODULE_big = zodan_bgw
DATA = sql/zodan_bgw--1.0.sql

REGRESS = $(sort $(basename $(notdir $(wildcard regress/sql/*.sql))))
REGRESS_OPTS = --encoding=UTF8 --inputdir=regress --outputdir=regress/output
EXTRA_CLEAN = regress/output $(SQL_HEADERS)
TAP_TESTS = 1
PROVE_TESTS = regress/t/*.pl

# The wings of worker/, each of which may include those before it, but queue and remote
# each other; and their files, each of which may include those before it.
WINGS = base queue remote engine cluster copy verify phases process
base = array settings retry wait failpoint dsn lsn
queue = spi states request effects journal queue nodes
remote = session connection remote query change pipe program
engine = slots origins markers wal engine engine_spock engine_pglogical
cluster = job names cluster servers own removal claim kept positions fence subscriptions watch
copy = plan marks work lists schema foreign_keys snapshots units throttle progress statements lanes copy stream
verify = mesh tables blocks suspects
phases = undo check register peers copy_database subscribe finish remove verify phases
process = roll_back runner launcher upkeep
OBJS = $(foreach wing,$(WINGS),$(patsubst %,worker/$(wing)/%.o,$($(wing)))) worker/zodan_bgw.o

# Long SQL statements: each is a file, and becomes a header that is a C string,
# without the lines that begin with --. {NAME} stands for a macro, which is a C string.
SQL_HEADERS = $(patsubst %.sql,%.h,$(wildcard worker/sql/*.sql))

worker/sql/%.h: worker/sql/%.sql
	sed -e '/^--/d' -e 's/[\\"]/\\&/g' -e 's/{\([A-Z][A-Z_]*\)}/" \1 "/g' -e 's/.*/"&\\n"/' $< >$@

PG_CONFIG ?= pg_config
PG_CPPFLAGS = -I$(shell $(PG_CONFIG) --includedir) -Iworker
ifdef FAILPOINTS
PG_CPPFLAGS += -DZODAN_FAILPOINTS
endif
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = -L$(shell $(PG_CONFIG) --libdir) -lpq

# these need no server to start with
ifneq (,$(filter demo check check-% bench bench-% soak indent sql-headers,$(MAKECMDGOALS)))

demo:
	@sh regress/sandbox.sh demo perl regress/demo.pl

check:
	@sh regress/sandbox.sh check sh regress/check.sh

check-all:
	@ZODAN_FAULTS=all TEST_SECONDS=7200 sh regress/sandbox.sh check sh regress/check.sh

check-%:
	@sh regress/sandbox.sh check sh regress/check.sh '$*'

bench:
	@sh regress/sandbox.sh check sh regress/check.sh --bench join launcher_memory

bench-%:
	@sh regress/sandbox.sh bench sh regress/check.sh --bench '$*'

soak:
	@MINUTES='$(or $(MINUTES),30)' sh regress/sandbox.sh check sh regress/check.sh --soak

# for what reads the C code without building it
sql-headers: $(SQL_HEADERS)

indent:
	@perl regress/indent.pl

.PHONY: demo check check-all bench soak sql-headers indent

else

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq (,$(wildcard $(PGXS)))
$(error No server to build for: install postgresql-server-dev-NN, or say PG_CONFIG=/path/to/pg_config)
endif

# no bitcode where the compiler for it is missing
CLANG_OF_SERVER := $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)
ifeq (,$(shell command -v $(firstword $(CLANG_OF_SERVER) none) 2>/dev/null))
override with_llvm = no
endif

include $(PGXS)

# PGXS doesn't know which object needs which header
$(OBJS) $(OBJS:.o=.bc): $(wildcard worker/*/*.h) $(SQL_HEADERS)

endif
