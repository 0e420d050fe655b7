from __future__ import annotations

import torch

from segscape.training.pool import ImagePool


def numbered(*numbers: int) -> torch.Tensor:
    """Images whose every value is their number."""
    return torch.tensor(numbers).float().view(-1, 1, 1, 1).expand(-1, 2, 3, 4)


def test_until_it_is_full_images_pass() -> None:
    pool = ImagePool(4)
    for images in (numbered(0, 1), numbered(2, 3)):
        assert torch.equal(pool(images), images)
    assert len(pool.kept) == 4


def test_half_are_exchanged_and_earlier_ones_come_once() -> None:
    torch.manual_seed(0)
    pool = ImagePool(5)
    shown = [int(pool(numbered(number))[0, 0, 0, 0]) for number in range(405)]
    earlier = sum(number != place for place, number in enumerate(shown))
    assert 160 < earlier < 240  # of 400, by a fair coin
    kept = [int(image[0, 0, 0]) for image in pool.kept]
    judged_again = [number for place, number in enumerate(shown) if number != place and number >= 5]
    assert len(set(judged_again)) == len(judged_again)
    assert sorted([*shown[5:], *kept]) == list(range(405))  # an exchange loses nothing and doubles nothing


def test_what_is_kept_does_not_change_with_the_batch() -> None:
    pool, images = ImagePool(1), numbered(7).clone()
    pool(images)
    images.zero_()
    assert int(pool.kept[0][0, 0, 0]) == 7


def test_a_restored_pool_goes_on_alike() -> None:
    pool, restored = ImagePool(3), ImagePool(3)
    pool(numbered(0, 1, 2))
    restored.load_state_dict(pool.state_dict())
    results = []
    for each in (pool, restored):
        torch.manual_seed(1)
        results.append(torch.cat([each(numbered(3 + number)) for number in range(10)]))
    assert torch.equal(*results)
