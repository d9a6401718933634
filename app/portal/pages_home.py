"""The first page."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.portal.rendering import render
from app.portal.visitors import Anyone

router = APIRouter()


@router.get("/")
def home(request: Request, visitor: Anyone) -> Response:
    """Say what this service is, or what to do next."""
    return render(request, "home.html", visitor=visitor)
