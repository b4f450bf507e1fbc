"""Certificates and clocks that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from hams_services.security import certificates


def test_a_clock_that_is_a_day_behind_takes_a_new_certificate() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key = certificates.new_key()
    authority = certificates.authority(key, now)
    signed = certificates.broker(certificates.new_key(), authority, key, ["a"], now)
    for one in (authority, signed):
        read = x509.load_pem_x509_certificate(one)
        assert read.not_valid_before_utc <= now - timedelta(days=30) < now < read.not_valid_after_utc
