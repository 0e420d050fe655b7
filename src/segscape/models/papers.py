"""Where each published system comes from."""

from __future__ import annotations

from typing import Final

PAPERS: Final[dict[str, str]] = {
    "spade": "Park et al., CVPR 2019, arXiv 1903.07291",
    "spade-light": "Tan et al., TPAMI 2021, arXiv 2012.04644, Table IV",
    "clade": "Tan et al., TPAMI 2021, arXiv 2012.04644",
    "clade-icpe": "Tan et al., TPAMI 2021, arXiv 2012.04644, with positional encoding",
    "pix2pixhd": "Wang et al., CVPR 2018, arXiv 1711.11585",
    "cc-fpse": "Liu et al., NeurIPS 2019, arXiv 1910.06809",
    "ca2-sis": "Fontanini et al., IEEE Access 2025, arXiv 2308.16071",
    "dagan": "Tang et al., ACM Multimedia 2020, arXiv 2008.13024",
    "sean": "Zhu et al., CVPR 2020, arXiv 1911.12861",
    "sean-clade": "SEAN with CLADE: Tan et al., TPAMI 2021, arXiv 2012.04644, section 4.10",
    "groupdnet": "Zhu et al., CVPR 2020, arXiv 2003.12697",
    "groupdnet-clade": "Tan et al., TPAMI 2021, arXiv 2012.04644, Table VIII",
}
"""Name in the registry -> source."""
