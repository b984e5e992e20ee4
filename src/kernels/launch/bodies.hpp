// SPDX-License-Identifier: Apache-2.0
// All kernel bodies; for launch files and compile checks.
#pragma once

#include "kernels/combine/combine_device.hpp"
#include "kernels/combine/combine_ll_device.hpp"
#include "kernels/dispatch/dispatch_device.hpp"
#include "kernels/dispatch/dispatch_ll_device.hpp"
#include "kernels/expert_rows/expert_rows_device.hpp"
#include "kernels/expert_rows/expert_rows_latency_device.hpp"
