"""The pipeline on real services: a stack is started for the session (a minute), by Penstock's own fixtures."""

from datetime import UTC, datetime, timedelta

from penstock.testing import Deploy

START = datetime(2026, 1, 1, tzinfo=UTC)


def order(number: int, country: str, seconds: int, cents: int) -> dict[str, object]:
    return {
        "order_id": str(number),
        "country": country,
        "ordered_at": START + timedelta(seconds=seconds),
        "cents": cents,
    }


def test_orders_are_counted_by_minute_and_country(pipeline: Deploy) -> None:
    orders = pipeline("orders_by_minute")
    orders.produce(
        [
            order(1, "DE", 0, 999),
            order(2, "FR", 10, 500),
            order(3, "DE", 59, 1),
            order(4, "DE", 60, 250),
            b"this is no order",
            order(5, "FR", 300, 100),  # closes the windows before it
        ]
    )
    assert orders.rows() == [
        {"__time": START, "country": "DE", "orders": 2, "cents": 1000},
        {"__time": START, "country": "FR", "orders": 1, "cents": 500},
        {"__time": START + timedelta(minutes=1), "country": "DE", "orders": 1, "cents": 250},
    ]
    assert [letter.value for letter in orders.dead_letters()] == [b"this is no order"]
    orders.produce([order(6, "DE", 30, 7)])
    assert len(orders.late()) == 1, "it is kept, and `penstock repair` counts it"
