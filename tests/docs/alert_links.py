"""Where alerts link to."""

import re

from tests.docs.pages import read

SITE = re.findall(r'^html_baseurl = "(https://.+/)"$', read("conf.py"), re.MULTILINE)[0]
RUNBOOKS = f"{SITE}reference/runbooks.html"
