// The old name of this header, for meeting.cpp only.
#pragma once

#include "threads/parallel.hpp"
