"""Puts a `Call` between gRPC and the servicer of each method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from kubelb.testing._grpc.call import Call
from kubelb.testing._grpc.traffic import Traffic


class Interceptor(grpc.ServerInterceptor):
    """For methods that are not served, too: they are calls as well."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details) or _UNKNOWN
        call = Call(self._traffic, handler_call_details.method, handler_call_details.invocation_metadata)
        make, name = _KINDS[handler.request_streaming, handler.response_streaming]
        behavior = getattr(handler, name)
        if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
            behavior = _asynchronous
        answer = call.answer_stream if handler.response_streaming else call.answer
        return make(
            partial(answer, behavior),
            request_deserializer=call.reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _unknown(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _asynchronous(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "LocalCluster runs a grpc.Server: write this servicer without `async`")


_UNKNOWN: Any = grpc.stream_stream_rpc_method_handler(_unknown)
_KINDS: dict[tuple[bool, bool], tuple[Callable[..., Any], str]] = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
