#pragma once

#include <trinix/backends/dispatch.h>
